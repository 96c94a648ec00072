package main

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/fedmesh/fedmesh/mesh/api"
)

// commands gives every command that does something.
func commands(cmd *cobra.Command) []*cobra.Command {
	var out []*cobra.Command
	for _, c := range cmd.Commands() {
		if c.Runnable() && len(c.Commands()) == 0 {
			out = append(out, c)
		}
		out = append(out, commands(c)...)
	}
	return out
}

func TestEveryFlagNamesItsVariable(t *testing.T) {
	n := 0
	for _, c := range commands(newRoot(&app{})) {
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			n++
			if name := "[FEDMESH_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_")) + "]"; f.Name != "help" && strings.Count(f.Usage, name) != 1 {
				t.Errorf("%s --%s: the help must name %s once: %q", c.CommandPath(), f.Name, name, f.Usage)
			}
		})
	}
	if n < 50 {
		t.Errorf("only %d flags were looked at", n)
	}
}

func TestEveryReportingCommandHasJSON(t *testing.T) {
	for _, c := range commands(newRoot(&app{})) {
		if c.Name() != "node" && c.Name() != "fedn" && c.Name() != "keygen" && c.Flags().Lookup("json") == nil {
			t.Errorf("%s has no --json", c.CommandPath())
		}
	}
}

func TestHelp(t *testing.T) {
	out := shell{}.ok(t)
	for _, want := range []string{"help exit-codes", "FEDMESH_DATA_DIR", "session", "push"} {
		if !strings.Contains(out, want) {
			t.Errorf("the help lacks %q", want)
		}
	}
	for _, c := range commands(newRoot(&app{})) {
		args := append(strings.Fields(c.CommandPath())[1:], "--help")
		if out := (shell{}).ok(t, args...); !strings.Contains(out, "Usage:") {
			t.Errorf("%v gives no usage: %q", args, out)
		}
	}
}

func TestFlagWinsOverEnvironmentOverDefault(t *testing.T) {
	p, sh := serve(t)
	file := t.TempDir() + "/u.safetensors"
	write(t, file, f32(t, 1, 2, 3))
	sh.env["FEDMESH_WEIGHT"] = "7" // stands in for a required flag
	sh.env["FEDMESH_ID"] = "from-env"
	sh.env["FEDMESH_METRIC"] = "loss=0.5,acc=0.25"
	sh.env["FEDMESH_COMBINER"] = ""
	sh.ok(t, "push", "s", file, "--combiner", "c", "--id", "from-flag")
	sh.ok(t, "push", "s", file, "--combiner", "c")
	delete(sh.env, "FEDMESH_ID")
	sh.ok(t, "push", "s", file, "--combiner", "d")
	if len(p.pushes) != 3 {
		t.Fatalf("%d pushes", len(p.pushes))
	}
	if got := []string{p.pushes[0].ID, p.pushes[1].ID}; !slices.Equal(got, []string{"from-flag", "from-env"}) {
		t.Errorf("ids %q", got)
	}
	if id := p.pushes[2].ID; id == "from-env" || id == "" {
		t.Errorf("default id %q", id)
	}
	if u := p.pushes[0]; u.Weight != 7 || u.Metrics["loss"] != 0.5 || u.Metrics["acc"] != 0.25 {
		t.Errorf("weight %d, metrics %v", u.Weight, u.Metrics)
	}
	// An empty variable is as good as none: the flag is still required.
	checkError(t, sh.run(t, "push", "s", file), exitUsage, `"combiner"`)
	sh.env["FEDMESH_WEIGHT"] = "abc"
	checkError(t, sh.run(t, "push", "s", file, "--combiner", "c"), exitUsage, "FEDMESH_WEIGHT", `"abc"`)
	sh.ok(t, "push", "s", file, "--combiner", "e", "--weight", "1")
}

func TestUsageErrors(t *testing.T) {
	_, sh := serve(t)
	file := t.TempDir() + "/u.safetensors"
	write(t, file, f32(t, 1, 2, 3))
	for _, c := range []struct{ line, says string }{
		{"nonsense", "nonsense"},
		{"session nonsense", "nonsense"},
		{"model nonsense", "nonsense"},
		{"stauts", "did you mean status?"},
		{"session shwo s", "did you mean show?"},
		{"status --peer http://a", "did you mean --peers?"},
		{"status extra", "extra"},
		{"status --nonsense", "--nonsense"},
		{"push s", "arg"},
		{"push s FILE --weight 1", "combiner"},
		{"push s FILE --combiner c", "weight"},
		{"push s FILE --combiner c --weight 0", "--weight is 0"},
		{"push s FILE --combiner c --weight -1", "--weight is -1"},
		{"push s FILE --combiner c --weight 2199023255552", "--weight"},
		{"push s FILE --combiner c --weight abc", "abc"},
		{"push s FILE --combiner c --weight 1 --metric loss=high", "--metric loss=high"},
		{"push s FILE --combiner c --weight 1 --metric loss=NaN", "finite"},
		{"push s FILE --combiner c --weight 1 --metric loss", "name=value"},
		{"push s FILE --combiner c --weight 1 --metric a/b=1", "a/b"},
		{"push s FILE --combiner c --weight 1 --metric loss=1 --metric loss=2", "given twice"},
		{"push s FILE --combiner c --weight 1 --metric " + strings.Repeat("m=1,", 64) + "m=1", "at most 64"},
		{"rounds s --last 0", "--last"},
		{"rounds s --round 0", "--round is 0"},
		{"rounds s --round 1 --last 3", "last"},
		{"push s . --combiner c --weight 1", "folder"},
		{"pull s", "output"},
		{"pull s -o x --format zip", "--format"},
		{"pull s -o x --wait 1s", "--after"},
		{"pull s -o x --round 1 --after 0", "round"},
		{"pull s -o - --json", "standard output"},
		{"pull s -o .", "folder"},
		{"session create n --seed FILE --min-combiners 0 --copies 99", "min_combiners"},
		{"session show s --rounds -1", "--rounds"},
		{"status --tries -1", "--tries"},
		{"status --peers ftp://x", "ftp"},
		{"leave --peers http://a,http://b", "2 peers"},
		{"model convert FILE out.bin", "out.bin"},
		{"model diff FILE", "arg"},
	} {
		t.Run(c.line, func(t *testing.T) {
			checkError(t, sh.run(t, strings.Fields(strings.ReplaceAll(c.line, "FILE", file))...), exitUsage, c.says, "--help")
		})
	}
}

func TestExitCodes(t *testing.T) {
	p, sh := serve(t)
	file := t.TempDir() + "/u.safetensors"
	write(t, file, f32(t, 1, 2, 3))
	checkError(t, sh.run(t, "session", "show", "other"), exitNotFound, "other", "session list")
	checkError(t, sh.run(t, "pull", "other", "-o", file), exitNotFound, "other")
	checkError(t, sh.run(t, "push", "s", "missing.npz", "--combiner", "c", "--weight", "1"), exitNotFound, "missing.npz")
	checkError(t, sh.run(t, "model", "inspect", "missing.npz"), exitNotFound, "missing.npz")

	for _, c := range []struct {
		problem *api.Problem
		code    int
	}{
		{api.ClosedSession("s", api.SessionClosed), exitRefused},
		{api.InvalidValue("w", 2, "NaN", "2^24"), exitRefused},
		{api.TooLarge(1), exitRefused},
		{api.Unavailable("too few peers", 0), exitUnavailable},
		{api.UnknownModel("s", api.Latest()), exitNotFound},
		{api.ModelGone("s", api.AtRound(3), 3, 20), exitNotFound},
		{api.BaseGone(digestOf(f32(t, 0))), exitRefused},
	} {
		p.fail(c.problem)
		checkError(t, sh.run(t, "push", "s", file, "--combiner", "c", "--weight", "1", "--base", digestOf(f32(t, 0)), "--id", "i"), c.code, c.problem.Detail)
	}
	p.fail(errInternal)
	checkError(t, sh.run(t, "session", "show", "s"), exitFailure)
	p.fail(nil)

	sh.env["FEDMESH_PEERS"] = "http://127.0.0.1:1" // nothing listens there
	checkError(t, sh.run(t, "status"), exitUnavailable, "FEDMESH_PEERS")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if r := sh.runContext(ctx, "status"); r.code != exitInterrupted {
		t.Errorf("interrupted: exit code %d: %s", r.code, r.err)
	}
}

func TestVersion(t *testing.T) {
	if out := (shell{}).ok(t, "version"); !strings.HasPrefix(out, "fedmesh ") {
		t.Errorf("%q", out)
	}
	if b := fromJSON[buildInfo](t, shell{}.ok(t, "version", "--json")); b.Version == "" || b.Go == "" {
		t.Errorf("%+v", b)
	}
}
