package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// variedCommand has a flag of each kind, one of a struct of its own, and a file for them.
func variedCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "x"}
	fs := cmd.Flags()
	fs.String(configFlag, "", "`file`")
	fs.String("name", "n", "")
	fs.Bool("fast", false, "")
	fs.Int("keep-models", 0, "")
	fs.Uint64("keep-rounds", 100, "")
	fs.Duration("wait", time.Second, "")
	fs.Float64("rate", 1, "")
	fs.StringSlice("join", []string{"j"}, "")
	fs.String("token", "", "")
	return cmd
}

// settled gives the settings of a command line, an environment and a file.
func settled(t *testing.T, args []string, env map[string]string, file string) *settings {
	t.Helper()
	cmd := variedCommand()
	if file != "" {
		path := filepath.Join(t.TempDir(), "c.yaml")
		write(t, path, []byte(file))
		args = append(args, "--config", path)
	}
	if err := cmd.ParseFlags(args); err != nil {
		t.Fatal(err)
	}
	return settle(cmd, func(k string) (string, bool) { v, ok := env[k]; return v, ok })
}

func TestFlagOverEnvironmentOverFileOverDefault(t *testing.T) {
	s := settled(t, []string{"--name", "flag"}, map[string]string{"FEDMESH_NAME": "env", "FEDMESH_RATE": "2", "FEDMESH_WAIT": ""},
		"name: file\nrate: 3\nwait: 4s\nkeep-models: 5\nfast: true\njoin: [a, 'b:1']\nkeep-rounds: 0x10\n")
	if len(s.faults) > 0 {
		t.Fatal(s.faults)
	}
	for name, want := range map[string][2]string{
		"name": {"flag", fromFlag}, "rate": {"2", fromEnvironment}, "wait": {"4s", fromFile}, "keep-models": {"5", fromFile},
		"fast": {"true", fromFile}, "join": {"[a,b:1]", fromFile}, "keep-rounds": {"16", fromFile}, "token": {"", fromDefault},
	} {
		if v, o := s.flags.Lookup(name).Value.String(), s.origin(name); v != want[0] || o.kind != want[1] {
			t.Errorf("%s is %q from %v, want %v", name, v, o, want)
		}
	}
	if o := s.origin("wait"); !strings.HasSuffix(o.place, "c.yaml:3") {
		t.Errorf("from %s", o.place)
	}
	if o := s.origin("rate"); o.place != "FEDMESH_RATE" {
		t.Errorf("from %s", o.place)
	}
}

func TestFaultsOfAFile(t *testing.T) {
	for _, c := range []struct{ file, says string }{
		{"nam: x", `:1: there is no key "nam"; did you mean name?`},
		{"\nkeep_models: 1", `:2: there is no key "keep_models"; did you mean keep-models?`},
		{"zzzzzz: 1", `:1: there is no key "zzzzzz"`},
		{"name: a\nname: b", ":2: name is set twice, first in line 1"},
		{"name: true", `:1: name is true; it must be text: write "true"`},
		{"name: [a]", ":1: name is a list; it must be text"},
		{"name: {a: b}", ":1: name is a group of keys"},
		{"name:", ":1: name is empty"},
		{"a: &x 1\nname: *x", ":2: name is an alias"},
		{"fast: yes", `:1: fast is "yes"; it must be true or false`},
		{"keep-models: few", `:1: keep-models is "few"; it must be a whole number`},
		{"keep-models: 1.5", ":1: keep-models"},
		{"keep-rounds: -1", ":1: keep-rounds"},
		{"wait: 5", ":1: wait is \"5\"; it must be a duration"},
		{"join: [a, [b]]", ":1: join"},
		{"join: {a: b}", ":1: join"},
		{"? [a, b]\n: c", ":1: a key must be the name of a flag"},
		{"config: x", "cannot be set in a file"},
		{"help: true", "cannot be set in a file"},
		{"- a", ":1: the file must consist of"},
		{"just words", ":1: the file must consist of"},
		{"name: a\n---\nname: b", "a second document"},
		{"name: 'a", "this is no YAML"},
		{"name: a\n\tfast: true", ":2: this is no YAML"},
	} {
		s := settled(t, nil, nil, c.file)
		found := false
		for _, err := range s.faults {
			found = found || strings.Contains(err.Error(), c.says) && strings.Contains(err.Error(), "c.yaml")
		}
		if !found {
			t.Errorf("%q: %v do not say %q", c.file, s.faults, c.says)
		}
	}
	for _, empty := range []string{" ", "# nothing\n", "---\n", "null"} {
		if s := settled(t, nil, nil, empty); len(s.faults) > 0 {
			t.Errorf("%q: %v", empty, s.faults)
		}
	}
	// What a flag overrides is looked at all the same, and changes nothing.
	s := settled(t, []string{"--keep-models", "7"}, nil, "keep-models: few\njoin: [a]")
	if len(s.faults) != 1 || s.flags.Lookup("keep-models").Value.String() != "7" {
		t.Errorf("%v, %v", s.faults, s.flags.Lookup("keep-models").Value)
	}
	s = settled(t, []string{"--keep-models", "7"}, nil, "keep-models: 8")
	if len(s.faults) != 0 || s.flags.Lookup("keep-models").Value.String() != "7" {
		t.Errorf("%v, %v", s.faults, s.flags.Lookup("keep-models").Value)
	}
	if s := settled(t, nil, nil, strings.Repeat("# long\n", maxConfig/7+1)); len(s.faults) != 1 || !strings.Contains(s.faults[0].Error(), "more than 1048576 bytes") {
		t.Errorf("a file without end: %v", s.faults)
	}
	if s := settled(t, []string{"--config", "missing.yaml"}, nil, ""); len(s.faults) != 1 || !strings.Contains(s.faults[0].Error(), "missing.yaml") {
		t.Errorf("a file that is not there: %v", s.faults)
	}
}

// FuzzConfig looks for what a file could do other than be refused.
func FuzzConfig(f *testing.F) {
	for _, s := range []string{"name: a\n", "join: [a, b]\nfast: true", "a: &a [*a]", "<<: {name: x}", "? {}", "name: !!binary aaaa", "\xff\xfe", "--- |\n x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s := settled(t, nil, nil, text+"\n")
		for _, err := range s.faults {
			if !strings.Contains(err.Error(), "c.yaml") {
				t.Errorf("%v does not name the file", err)
			}
		}
	})
}

func TestSecretsAreNotShown(t *testing.T) {
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	fs.String("token", "", "a `token`")
	fs.String("gossip-key", "", "")
	fs.String("tls-key", "", "a `file`")
	fs.String("token-file", "", "a `file`")
	fs.String("keep-models", "", "")
	for name, want := range map[string]bool{"token": true, "gossip-key": true, "tls-key": false, "token-file": false, "keep-models": false} {
		if got := secret(fs.Lookup(name)); got != want {
			t.Errorf("%s is secret: %v", name, got)
		}
	}
	cmd := &cobra.Command{}
	cmd.Flags().Int("token", 0, "")
	s := settle(cmd, func(string) (string, bool) { return "hunter2", true })
	if len(s.faults) != 1 || strings.Contains(s.faults[0].Error(), "hunter2") {
		t.Errorf("%v", s.faults)
	}
}

func TestNodeCheck(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "node.yaml")
	write(t, file, []byte("listen: 127.0.0.1:0\ngossip: 127.0.0.1:0\nname: from-file\nmesh: m\n"))
	sh := shell{env: map[string]string{"FEDMESH_NAME": "from-env"}}
	args := []string{"node", "--check", "--config", file, "--data-dir", filepath.Join(dir, "new", "data")}
	out := sh.ok(t, args...)
	for _, want := range []string{`(?m)^name +from-env +FEDMESH_NAME$`, `(?m)^mesh +m +\S+node.yaml:4$`, `(?m)^fsync +auto +default$`, `(?m)^data-dir .*--data-dir$`, `tcp 127.0.0.1:0`, `not checked`} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("%s is not in\n%s", want, out)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "new")); err == nil {
		t.Error("the check made the data directory")
	}
	r := fromJSON[nodeReport](t, sh.ok(t, append(args, "--json")...))
	if i := slices.IndexFunc(r.Settings, func(s nodeSetting) bool { return s.Name == "name" }); !r.OK || i < 0 || r.Settings[i] != (nodeSetting{"name", "from-env", fromEnvironment, "FEDMESH_NAME"}) {
		t.Errorf("%+v", r)
	}

	// Everything wrong at once: command line, environment, file, what files hold, folders.
	write(t, file, []byte("listen: nowhere\nfsync: sometimes\nlog-level: loud\nnone: 1\n"))
	write(t, filepath.Join(dir, "short"), []byte("short"))
	write(t, filepath.Join(dir, "plain"), []byte("x"))
	sh.env = map[string]string{"FEDMESH_KEEP_MODELS": "few"}
	args = []string{"node", "--check", "--config", file, "--data-dir", filepath.Join(dir, "plain", "data"), "--max-disk", "much", "--secret-file", filepath.Join(dir, "none")}
	says := []string{"--listen", "--fsync", "--log-level", `no key "none"`, "FEDMESH_KEEP_MODELS", "--data-dir", "--max-disk", "--secret-file"}
	checkError(t, sh.run(t, args...), exitUsage, append(says, fmt.Sprint(len(says), " faults"))...)
	bad := sh.run(t, append(args, "--json")...)
	if r := fromJSON[nodeReport](t, bad.out); bad.code != exitUsage || r.OK || len(r.Faults) != len(says) || bad.err != "" {
		t.Errorf("exit code %d, %q, %+v", bad.code, bad.err, r)
	}

	// What a file holds is looked at, too, and an address that is taken is told.
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	args = []string{"node", "--check", "--data-dir", dir, "--gossip", "127.0.0.1:0", "--listen", taken.Addr().String()}
	if r := (shell{}).run(t, args...); r.code != exitOK || !strings.Contains(r.err, "warning: --listen: tcp "+taken.Addr().String()+" is taken") {
		t.Errorf("exit code %d: %s", r.code, r.err)
	}
	checkError(t, shell{}.run(t, append(args, "--secret-file", filepath.Join(dir, "short"))...), exitUsage, "32 to 4096 bytes")
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 3 {
		t.Errorf("the check left something: %v, %v", entries, err)
	}
}

// TestExampleConfig holds the example to the flags there are: it names each, with its default where it is commented out.
func TestExampleConfig(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("..", "..", "examples", "node.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	load := func(text string) *settings {
		path := filepath.Join(t.TempDir(), "node.yaml")
		write(t, path, []byte(text))
		cmd := newNode(&app{})
		if err := cmd.ParseFlags([]string{"--config", path}); err != nil {
			t.Fatal(err)
		}
		s := settle(cmd, func(string) (string, bool) { return "", false })
		if len(s.faults) > 0 {
			t.Error(s.faults)
		}
		return s
	}
	load(string(b))
	commented := regexp.MustCompile(`(?m)^#([a-z][a-z-]*: )`)
	s := load(commented.ReplaceAllString(string(b), "$1"))
	for _, name := range s.keys() {
		f := s.flags.Lookup(name)
		if s.origin(name).kind != fromFile {
			t.Errorf("examples/node.yaml does not name %s", name)
		}
		if strings.Contains(string(b), "\n#"+name+": ") && f.DefValue != "" && f.DefValue != "[]" && f.Value.String() != f.DefValue {
			t.Errorf("examples/node.yaml shows %s: %s as the default, which is %s", name, f.Value, f.DefValue)
		}
	}
}
