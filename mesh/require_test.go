package mesh_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/fedmesh/fedmesh/mesh/api"
)

// A session that its strategy could never compute a round of is refused when it is opened, with words that help.
func TestStrategyRefusesSessions(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.up("a", "b")
		for name, s := range map[string]struct {
			strategy      string
			params        map[string]string
			target, least int
			words         []string
		}{
			"unknown strategy":        {"krumm", nil, 0, 1, []string{`"krumm"`, "bulyan", "fedavg", "krum,", "multikrum"}},
			"unknown parameter":       {"krum", map[string]string{"f": "1"}, 0, 1, []string{`no parameter "f"`, "num_malicious_clients", "num_clients_to_keep", "weighting"}},
			"value out of range":      {"fedtrimmedavg", map[string]string{"beta": "0.5"}, 0, 1, []string{`beta is "0.5"`, "0 ≤ x < 0.5"}},
			"several faults":          {"geomedian", map[string]string{"nu": "0", "x": "1"}, 0, 1, []string{"nu is", `no parameter "x"`}},
			"krum below 2f+3":         {"krum", map[string]string{"num_malicious_clients": "1"}, 4, 1, []string{"5 combiners", "close at 4", "raise the target"}},
			"a minimum below 2f+3":    {"krum", map[string]string{"num_malicious_clients": "1"}, 4, 4, []string{"5 combiners"}},
			"bulyan below 4f+3":       {"bulyan", map[string]string{"num_malicious_clients": "2"}, 10, 1, []string{"11 combiners"}},
			"more than any mesh has":  {"bulyan", map[string]string{"num_malicious_clients": "300000"}, 0, 1, []string{"min_combiners is 1200003"}},
			"more to keep than there": {"multikrum", map[string]string{"num_clients_to_keep": "9"}, 8, 1, []string{"9 combiners"}},
		} {
			cfg := api.DefaultSessionConfig()
			cfg.Strategy, cfg.Params, cfg.TargetCombiners, cfg.MinCombiners = s.strategy, s.params, s.target, s.least
			_, _, err := c.ask("a").CreateSession(t.Context(), "s", cfg, api.Bytes(file(0)))
			if err == nil {
				t.Fatalf("%s: opened", name)
			}
			for _, w := range s.words {
				c.problem(err, http.StatusBadRequest, w)
			}
		}
		if n := len(c.nodes["a"].peer.Sessions()); n != 0 {
			t.Errorf("%d sessions", n)
		}
	})
}

// The minimum of combiners is raised to what the strategy needs: updates that are too few wait for more, and are not used up by a round
// that keeps its model.
func TestStrategyRaisesMinimum(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.up("a", "b")
		krum := func(target int) func(*api.SessionConfig) {
			return func(s *api.SessionConfig) {
				s.Strategy, s.Params, s.TargetCombiners = "krum", map[string]string{"num_malicious_clients": "1"}, target
			}
		}
		info := c.open("a", "s", file(0), krum(0))
		if info.Config.MinCombiners != 5 {
			t.Errorf("minimum %d, want 5", info.Config.MinCombiners)
		}
		// The same again, with the minimum as it was given and as it is.
		cfg := api.DefaultSessionConfig()
		for _, least := range []int{1, 5} {
			krum(0)(&cfg)
			cfg.MinCombiners = least
			if again, created, err := c.ask("b").CreateSession(t.Context(), "s", cfg, api.Bytes(file(0))); err != nil || created || again.Key != info.Key {
				t.Errorf("minimum %d again: created %v, %v", least, created, err)
			}
		}
		if higher := c.open("a", "more", file(0), func(s *api.SessionConfig) { krum(7)(s); s.MinCombiners = 6 }); higher.Config.MinCombiners != 6 {
			t.Errorf("minimum %d, want the 6 that was given", higher.Config.MinCombiners)
		}

		for i := range 4 {
			c.push("a", "s", from(info.Seed, combiner(i), 1), file(1))
		}
		time.Sleep(3 * time.Duration(info.Config.RoundTimeout))
		if now := c.session("a", "s"); now.Round != 1 {
			t.Fatalf("round %d with four combiners", now.Round)
		}
		c.push("b", "s", from(info.Seed, combiner(4), 1), file(1))
		c.settles("s", 1, "a", "b")
		if got := c.session("a", "s").Model; got != digest(file(1)) {
			t.Errorf("model %s, want that of the five", got)
		}
	})
}
