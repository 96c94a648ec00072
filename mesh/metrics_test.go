package mesh_test

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/rs/zerolog"

	"github.com/fedmesh/fedmesh/mesh"
	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/certs"
	"github.com/fedmesh/fedmesh/mesh/certs/certtest"
	"github.com/fedmesh/fedmesh/mesh/gossip"
)

var update = flag.Bool("update", false, "write METRICS.md anew")

// gathered returns the metrics of a, once it has answered a request or two.
func (c *cluster) gathered() []*dto.MetricFamily {
	c.t.Helper()
	a := c.nodes["a"]
	server := api.NewServer(a.peer, api.ServerOptions{Registerer: a.registry, Gatherer: a.registry})
	defer server.Close()
	for _, path := range []string{"/v1/sessions", "/nothing"} {
		server.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(c.t.Context(), http.MethodGet, path, nil))
	}
	families, err := a.registry.Gather()
	if err != nil {
		c.t.Fatal(err)
	}
	return families
}

// TestMetrics runs rounds, kills a peer, and looks at all that another says of itself: the names and texts are those of METRICS.md and
// as Prometheus has them, and the figures are what happened.
func TestMetrics(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.tune = func(cfg *mesh.Config) { cfg.Version, cfg.MaxDisk = "v1.2.3", 1<<30 }
		c.up("a", "b", "c")
		undo, err := gossip.ExportMemberlist(c.nodes["a"].registry)
		if err != nil {
			t.Fatal(err)
		}
		defer undo()
		registerCerts(t, c.nodes["a"].registry)
		info := c.open("a", "s", file(0), func(s *api.SessionConfig) { s.TargetCombiners = 2; s.Copies = 3 })
		for round := range 3 {
			base := c.session("a", "s").Model
			for i := range 2 {
				c.push("a", "s", from(base, combiner(i), 1), file(float32(round*2+i+1)))
			}
			c.settles("s", round+1, "a", "b", "c")
		}
		c.final("s", 3)
		c.kill("c")
		c.eventually(time.Minute, func() error {
			if got := c.value("a", "peer_up", "c"); got != 0 {
				return fmt.Errorf("c is up: %v", got)
			}
			return nil
		})
		c.push("a", "s", from(c.session("a", "s").Model, combiner(0), 1), file(9))
		if _, err := c.try("a", "s", from(info.Seed, combiner(1), 1), []byte("no model")); err == nil {
			t.Fatal("accepted")
		}
		families := c.gathered()

		for _, p := range lint(t, families) {
			t.Error(p)
		}
		checkList(t, families)
		checkExamples(t, families)

		for _, w := range []struct {
			name, label string
			least, most float64
		}{
			{"ready", "", 1, 1},
			{"build_info", "v1.2.3", 1, 1},
			{"updates_total", "accepted", 7, 7},
			{"updates_total", "refused", 1, 1},
			{"rounds_total", "sealed", 3, 3},
			{"rounds_total", "final", 3, 3},
			{"rounds_total", "computed", 1, 3}, // or taken from who was faster
			{"rounds_total", "amended", 0, 0},
			{"push_phase_seconds", "receive", 7, 7},
			{"push_phase_seconds", "sync", 7, 7},
			{"push_phase_seconds", "copy", 7, 7},
			{"push_phase_seconds", "acknowledge", 7, 7},
			{"round_phase_seconds", "open", 3, 3},
			{"round_phase_seconds", "settle", 3, 3},
			{"round_phase_seconds", "gather", 1, 3},
			{"round_phase_seconds", "publish", 1, 3},
			{"round_phase_seconds", "final", 3, 3},
			{"rounds_not_final", "", 0, 0},
			{"session_open_round", "s", 4, 4},
			{"session_final_round", "s", 3, 3},
			{"session_pending_updates", "s", 1, 1},
			{"sessions", "open", 1, 1},
			{"sessions_unlisted", "", 0, 0},
			{"updates_underreplicated", "", 1, 1}, // three copies are asked for, two peers live
			{"peers_alive", "", 2, 2},
			{"peer_up", "b", 1, 1},
			{"peer_up", "c", 0, 0},
			{"peer_behind_entries", "c", 1, 100},
			{"peer_ahead_entries", "c", 0, 0},
			{"divergences", "", 0, 0},
			{"blobs_limit_bytes", "", 1 << 30, 1 << 30},
			{"blobs_bytes", "", float64(3 * len(file(0))), 1 << 20},
			{"log_bytes", "", 1000, 1 << 20},
			{"peer_sent_bytes_total", "updates", float64(7 * len(file(0))), 1 << 20},
			{"peer_received_bytes_total", "entries", 100, 1 << 20},
			{"peer_calls_total", "ok", 10, 10000},
		} {
			if got := c.value("a", w.name, w.label); got < w.least || got > w.most {
				t.Errorf("%s %s is %v, want %v to %v", w.name, w.label, got, w.least, w.most)
			}
		}
		if at := c.value("a", "session_sealed_timestamp_seconds", "s"); time.Since(time.UnixMilli(int64(at*1000))) > time.Minute {
			t.Errorf("the last seal was at %v, it is %v", at, time.Now().Unix())
		}
	})
}

// registerCerts adds the metrics of a peer with TLS.
func registerCerts(t *testing.T, registry *prometheus.Registry) {
	t.Helper()
	ca, err := certtest.NewCA("test")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ca.Issue(certtest.Cert{})
	if err != nil {
		t.Fatal(err)
	}
	files, err := pair.Write(t.TempDir(), "peer")
	if err != nil {
		t.Fatal(err)
	}
	store, err := certs.Open(files, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	registry.MustRegister(store.Metrics()...)
}

// value is metric, but fails where there is none.
func (c *cluster) value(at, name, label string) float64 {
	c.t.Helper()
	families, err := c.nodes[at].registry.Gather()
	if err != nil {
		c.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "fedmesh_"+name && (label == "" || slices.ContainsFunc(f.GetMetric(), func(m *dto.Metric) bool {
			return slices.ContainsFunc(m.GetLabel(), func(l *dto.LabelPair) bool { return l.GetValue() == label })
		})) {
			return c.metric(at, name, label)
		}
	}
	c.t.Fatalf("%s has no metric %s %s", at, name, label)
	return 0
}

// lint returns what is wrong with metrics by the rules of promtool check metrics, and by ours.
func lint(t *testing.T, families []*dto.MetricFamily) (faults []string) {
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		faults = append(faults, p.Metric+": "+p.Text)
	}
	for _, f := range families {
		if help := f.GetHelp(); !strings.HasPrefix(f.GetName(), "fedmesh_") || !strings.HasSuffix(help, ".") {
			faults = append(faults, fmt.Sprintf("%s: %q: names begin with fedmesh_, helps are sentences", f.GetName(), help))
		}
		if len(f.GetMetric()) > 200 {
			faults = append(faults, fmt.Sprintf("%s has %d series", f.GetName(), len(f.GetMetric())))
		}
	}
	return faults
}

// TestLintCanFail shows lint a metric that breaks the rules.
func TestLintCanFail(t *testing.T) {
	r := prometheus.NewRegistry()
	r.MustRegister(prometheus.NewCounter(prometheus.CounterOpts{Name: "fedmesh_took_milliseconds", Help: "No sentence"}))
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if faults := lint(t, families); len(faults) < 3 {
		t.Errorf("%q", faults)
	}
}

// checkList compares metrics with METRICS.md, or writes it.
func checkList(t *testing.T, families []*dto.MetricFamily) {
	t.Helper()
	const path, begin = "METRICS.md", "<!-- The table is written by go test ./mesh -run TestMetrics -update. -->\n"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	intro, have, ok := strings.Cut(string(text), begin)
	if !ok {
		t.Fatalf("%s lacks the line %q", path, begin)
	}
	want := "\n" + table(families)
	if *update {
		if err := os.WriteFile(path, []byte(intro+begin+want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if have == want {
		return
	}
	lines := map[string]bool{}
	for l := range strings.Lines(have) {
		lines[l] = true
	}
	for l := range strings.Lines(want) {
		if !lines[l] {
			t.Errorf("%s lacks: %s", path, l)
		}
		delete(lines, l)
	}
	for _, l := range slices.Sorted(maps.Keys(lines)) {
		t.Errorf("%s has, and a peer has not: %s", path, l)
	}
	t.Errorf("%s is stale: go test ./mesh -run TestMetrics -update", path)
}

// table lists metrics, ascending by name.
func table(families []*dto.MetricFamily) string {
	var b strings.Builder
	b.WriteString("| Metric | Type | Labels | |\n|---|---|---|---|\n")
	for _, f := range families {
		values := map[string]map[string]bool{}
		var names []string
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if values[l.GetName()] == nil {
					values[l.GetName()] = map[string]bool{}
					names = append(names, l.GetName())
				}
				values[l.GetName()][l.GetValue()] = true
			}
		}
		labels := make([]string, 0, len(names))
		for _, n := range names {
			text := "`" + n + "`"
			if !open[n] {
				text += ": " + strings.Join(slices.Sorted(maps.Keys(values[n])), ", ")
			}
			labels = append(labels, text)
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.GetName(), strings.ToLower(f.GetType().String()), strings.Join(labels, "; "), f.GetHelp())
	}
	return b.String()
}

// open are the labels whose values depend on the mesh and on who asks.
var open = map[string]bool{"peer": true, "session": true, "version": true, "goversion": true, "route": true, "method": true, "code": true}

// TestAmendedRoundsAreCounted divides a mesh in two, each part of which goes on, and joins it again.
func TestAmendedRoundsAreCounted(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.up("a", "b")
		info := c.open("a", "s", file(0), func(s *api.SessionConfig) { s.TargetCombiners = 1 })
		c.net.Partition([]string{"a"}, []string{"b"})
		c.eventually(time.Minute, func() error {
			if c.value("a", "peers_alive", "")+c.value("b", "peers_alive", "") > 2 {
				return fmt.Errorf("they see each other")
			}
			return nil
		})
		c.push("a", "s", from(info.Seed, "x", 1), file(1))
		c.settles("s", 1, "a")
		if n, thin := c.value("a", "rounds_not_final", ""), c.value("a", "updates_underreplicated", ""); n != 1 || thin != 1 {
			t.Errorf("alone, %v rounds are not final and %v updates lack copies, want 1 and 1", n, thin)
		}
		b := c.nodes["b"].peer
		for i := range 2 {
			if _, err := b.Push(t.Context(), api.PushRequest{Session: "s", Combiner: combiner(i), Weight: 1, Base: info.Seed, ID: fmt.Sprint(i), Body: bytes.NewReader(file(float32(i + 2)))}); err != nil {
				t.Fatal(err)
			}
			c.settles("s", i+1, "b")
		}
		c.net.Heal()
		c.eventually(2*time.Minute, func() error {
			for _, at := range []string{"a", "b"} {
				if n, thin := c.value(at, "rounds_not_final", ""), c.value(at, "updates_underreplicated", ""); n+thin > 0 {
					return fmt.Errorf("%s: %v rounds not final, %v updates lack copies", at, n, thin)
				}
			}
			return nil
		})
		if n := c.value("a", "rounds_total", "amended") + c.value("b", "rounds_total", "amended"); n == 0 {
			t.Error("no round was amended")
		}
	})
}
