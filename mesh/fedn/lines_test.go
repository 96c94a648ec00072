package fedn_test

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/fedmesh/fedmesh/mesh/access"
	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/fedn"
)

// with makes tokens, of which a tokens file has all but the last.
func with(t *testing.T, grants ...access.Grant) (*access.Set, []string) {
	t.Helper()
	var text, tokens []string
	for i, g := range grants {
		token := access.NewToken()
		h, err := access.HashOf(token)
		if err != nil {
			t.Fatal(err)
		}
		line, err := access.Line(g, h)
		if err != nil {
			t.Fatal(err)
		}
		tokens = append(tokens, token)
		if i < len(grants)-1 {
			text = append(text, line)
		}
	}
	set, err := access.Parse([]byte(strings.Join(text, "\n")))
	if err != nil {
		t.Fatal(err)
	}
	return set, tokens
}

// faults are the lines of a log that tell of an error.
func faults(log string) []string {
	var out []string
	for line := range strings.Lines(log) {
		if strings.Contains(line, `"error":`) {
			out = append(out, line)
		}
	}
	return out
}

// What the mesh refuses is said once by the gateway, and in each round by the combiner, with what to do; the combiner goes on by itself, and what it
// made waits.
func TestRefusalsAreSaid(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := startPeer(t)
		p.down()
		set, tokens := with(t,
			access.Grant{Name: "operator", Role: access.Operator},
			access.Grant{Name: "free", Role: access.Combiner},
			access.Grant{Name: "reader", Role: access.Reader},
			access.Grant{Name: "others", Role: access.Combiner, Combiner: "other"},
			access.Grant{Name: "elsewhere", Role: access.Combiner, Sessions: []string{"t"}},
			access.Grant{Name: "unknown", Role: access.Combiner},
		)
		p.let = set
		p.up()
		p.openAs(p.bearer(tokens[0]), npz(t, f32(1)))
		for name, c := range map[string]struct {
			token    string
			session  string
			says, do string
		}{
			"session": {tokens[1], "typo", `session \"typo\" does not exist and could not be opened`, "fedmesh session create typo"},
			"role":    {tokens[2], "s", "is of role reader", "of role combiner"},
			"other":   {tokens[3], "s", `bound to the combiner \"other\"`, "of role combiner"},
			"bound":   {tokens[4], "s", "bound to other sessions: t", "the session s"},
			"unknown": {tokens[5], "s", "does not know the token", "fedmesh token new"},
			"none":    {"", "s", "needs a token", "fedmesh token new"},
		} {
			g := startGateway(t, p.bearer(c.token), "one", t.TempDir(), func(cfg *fedn.Config) {
				hasty(cfg)
				cfg.Session = c.session
			})
			for range 3 {
				want(t, g.must(g.round(npz(t, f32(1)), examples("x", 1, npz(t, f32(2))))), f32(2))
			}
			g.stop()
			if f := faults(g.log.String()); len(f) != 1 || !strings.Contains(f[0], c.says) || !strings.Contains(f[0], `"do":"`) || !strings.Contains(f[0], c.do) {
				t.Errorf("%s: the gateway says:\n%s", name, g.log)
			}
			// A model is stored for the combiner and for its client, in turn.
			if s := strings.ReplaceAll(g.said[4], `"`, `\"`); !strings.Contains(s, c.says) || !strings.Contains(s, c.do) {
				t.Errorf("%s: the combiner says: %q", name, g.said)
			}
		}
	})
}

// A session that was opened with another configuration keeps it, and the gateway says so.
func TestOtherConfiguration(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := startPeer(t)
		p.open(npz(t, f32(1)))
		g := startGateway(t, p.client(), "one", t.TempDir(), func(c *fedn.Config) {
			c.Open.TargetCombiners, c.Open.RoundTimeout = 3, api.Duration(7*time.Second)
		})
		for range 2 {
			g.must(g.round(npz(t, f32(1)), examples("x", 1, npz(t, f32(2)))))
		}
		if n := strings.Count(g.log.String(), "target_combiners is 1, not 3; round_timeout is 1m0s, not 7s"); n != 1 {
			t.Errorf("%d lines:\n%s", n, g.log)
		}
		if n := strings.Count(strings.Join(g.said, "\n"), "target_combiners is 1, not 3"); n != 1 || !strings.Contains(g.said[0], "same flags") {
			t.Errorf("the combiner says: %q", g.said)
		}
	})
}

// A layout that changes in mid-training: FEDn logs an error with this code and tries again, and then neither.
func TestLayoutChanges(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := startPeer(t)
		g := startGateway(t, p.client(), "one", t.TempDir(), nil)
		global := g.must(g.round(npz(t, f32(1, 1), i64(1)), examples("x", 1, npz(t, f32(2, 2), i64(2)))))
		for name, c := range map[string]struct {
			model []byte
			says  string
		}{
			"shape": {npz(t, f32(1, 2, 3), i64(1)), `tensor "0" has shape [3], the session's [2]`},
			"more":  {npz(t, f32(1, 1), i64(1), f32(1)), "their number is 3, the session's 2"},
			"fewer": {npz(t, f32(1, 1)), "their number is 1, the session's 2"},
			"range": {npz(t, f64(1, 1e300), i64(1)), "1e+300 does not fit F32"},
		} {
			g.log.Reset()
			g.said = nil
			out := g.must(g.round(global, examples("x", 1, c.model), examples("y", 1, npz(t, f32(2, 2), i64(2)))))
			want(t, out, f32(2, 2), i64(2))
			if f := faults(g.log.String()); len(f) != 1 || !strings.Contains(g.said[1], "left out: ") || !strings.Contains(g.said[1], c.says) {
				t.Errorf("%s: the combiner says %q, the gateway\n%s", name, g.said, g.log)
			}
			g.log.Reset()
			for i, code := range []codes.Code{codes.FailedPrecondition, codes.InvalidArgument, codes.FailedPrecondition, codes.InvalidArgument} {
				err := g.store("global_model", c.model, 1000)
				if status.Code(err) != code || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "give another --session") {
					t.Errorf("%s, %d: %v", name, i, err)
				}
			}
			if f := faults(g.log.String()); len(f) != 1 || !strings.Contains(f[0], "give another --session") {
				t.Errorf("%s: the gateway says:\n%s", name, g.log)
			}
		}
		// Another dtype is converted, and nothing need be said.
		g.log.Reset()
		want(t, g.must(g.round(npz(t, f64(2, 2), f64(2)), examples("x", 1, npz(t, f64(3, 3), f64(3))))), f32(3, 3), i64(3))
		if f := faults(g.log.String()); len(f) != 0 {
			t.Error(f)
		}
	})
}

// While a round waits for a mesh that is away, the log says so before patience is over.
func TestWaitingIsSaid(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := startPeer(t)
		g := startGateway(t, p.client(), "one", t.TempDir(), func(c *fedn.Config) {
			c.Patience = time.Minute
		})
		global := g.must(g.round(npz(t, f32(1)), examples("x", 1, npz(t, f32(2)))))
		p.down()
		done := make(chan []byte)
		go func() {
			b, _ := g.round(global, examples("x", 1, npz(t, f32(3))))
			done <- b
		}()
		eventually(t, "a line", g.log, func() bool { return len(faults(g.log.String())) > 0 })
		p.up()
		want(t, <-done, f32(3))
		f := faults(g.log.String())
		if len(f) != 1 || !strings.Contains(f[0], "the mesh cannot be reached") || !strings.Contains(f[0], "connection refused") || !strings.Contains(f[0], "--peers") {
			t.Errorf("%s", g.log)
		}
		if !strings.Contains(g.log.String(), "takes this gateway's work again") {
			t.Errorf("%s", g.log)
		}
	})
}
