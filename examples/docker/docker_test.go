package docker

import (
	"bytes"
	"context"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// TestDockerfile parses the file as BuildKit does, with its rules, and looks at what the image will be.
func TestDockerfile(t *testing.T) {
	text, err := os.ReadFile("Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	stages, complaints, err := parse(text)
	if err != nil || len(complaints) > 0 {
		t.Fatalf("%v, %v", err, complaints)
	}
	last := stages[len(stages)-1]
	if last.BaseName != "scratch" {
		t.Errorf("the image is made from %s", last.BaseName)
	}
	var user, stop string
	var health, entry []string
	for _, c := range last.Commands {
		switch c := c.(type) {
		case *instructions.UserCommand:
			user = c.User
		case *instructions.StopSignalCommand:
			stop = c.Signal
		case *instructions.HealthCheckCommand:
			health = c.Health.Test
		case *instructions.EntrypointCommand:
			entry = c.CmdLine
		}
	}
	if user != "65532:65532" { // by number, so that Kubernetes sees that it is not root
		t.Errorf("it runs as %q", user)
	}
	if stop != "SIGTERM" || !slices.Equal(entry, []string{"/fedmesh"}) || !slices.Equal(health, []string{"CMD", "/fedmesh", "health"}) {
		t.Errorf("stop signal %q, entry point %q, health check %q", stop, entry, health)
	}
	for what, spoil := range map[string][2]string{
		"an unknown instruction": {"EXPOSE", "EXPOSES"},
		"an unknown flag":        {"--interval", "--intervall"},
		"a wrong case":           {"AS build", "as build"},
	} {
		spoilt := bytes.Replace(text, []byte(spoil[0]), []byte(spoil[1]), 1)
		if _, complaints, err := parse(spoilt); err == nil && len(complaints) == 0 {
			t.Errorf("%s is not noticed", what)
		}
	}
}

func parse(text []byte) (stages []instructions.Stage, complaints []string, err error) {
	result, err := parser.Parse(bytes.NewReader(text))
	if err != nil {
		return nil, nil, err
	}
	for _, w := range result.Warnings {
		complaints = append(complaints, w.Short)
	}
	lint := linter.New(&linter.Config{Warn: func(rule, _, _, message string, _ []parser.Range) {
		complaints = append(complaints, rule+": "+message)
	}})
	stages, _, err = instructions.Parse(result.AST, lint)
	return stages, complaints, err
}

// TestCompose loads the file as Compose does, against its schema, and looks at each peer.
func TestCompose(t *testing.T) {
	text, err := os.ReadFile("compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	project, err := load(t, text)
	if err != nil {
		t.Fatal(err)
	}
	if got := project.ServiceNames(); !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Fatalf("services %v", got)
	}
	for name, s := range project.Services {
		if !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) || len(s.Secrets) != 3 {
			t.Errorf("%s: read only %v, capabilities dropped %v, %d secrets", name, s.ReadOnly, s.CapDrop, len(s.Secrets))
		}
		env := func(key string) string {
			if v := s.Environment[key]; v != nil {
				return *v
			}
			return ""
		}
		if env("FEDMESH_NAME") != name || env("FEDMESH_ADVERTISE_API") != name+":8080" || env("FEDMESH_ADVERTISE_GOSSIP") != name+":7946" {
			t.Errorf("%s: %v", name, s.Environment)
		}
		if len(s.Volumes) != 1 || s.Volumes[0].Source != "data-"+name || s.Volumes[0].Target != "/data" {
			t.Errorf("%s: volumes %v", name, s.Volumes)
		}
		for _, p := range s.Ports {
			if p.HostIP != "127.0.0.1" {
				t.Errorf("%s: port %s is open to the network", name, p.Published)
			}
		}
	}
	for what, spoil := range map[string][2]string{
		"a misspelt key":            {"read_only:", "readonly:"},
		"a wrong type":              {"cap_drop: [ALL]", "cap_drop: true"},
		"a secret that is not made": {"secrets: [keyring,", "secrets: [keyrings,"},
	} {
		if _, err := load(t, []byte(strings.Replace(string(text), spoil[0], spoil[1], 1))); err == nil {
			t.Errorf("%s is not noticed", what)
		}
	}
}

func load(t *testing.T, text []byte) (*types.Project, error) {
	t.Helper()
	path := t.TempDir() + "/compose.yaml"
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	options, err := cli.NewProjectOptions([]string{path}, cli.WithName("fedmesh"))
	if err != nil {
		return nil, err
	}
	return options.LoadProject(context.Background())
}
