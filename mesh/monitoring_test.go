package mesh_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
)

const monitoring = "../examples/monitoring"

var (
	metricName = regexp.MustCompile(`\b(fedmesh_[a-z0-9_]+)(\{[^}]*\})?`)
	matcher    = regexp.MustCompile(`([a-z_]+)\s*(?:=~|!~|!=|=)`)
	rule       = regexp.MustCompile(`(?m)^\s*expr: (.*)$`)
	aggregated = regexp.MustCompile(`by \(([^)]*)\)`)
)

// expressions returns what rules and the dashboard ask of Prometheus, by where it stands.
func expressions(t *testing.T) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	rules, err := os.ReadFile(filepath.Join(monitoring, "alerts.yml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range rule.FindAllSubmatch(rules, -1) {
		out["alerts.yml"] = append(out["alerts.yml"], string(m[1]))
	}
	b, err := os.ReadFile(filepath.Join(monitoring, "dashboard.json"))
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			Title, Type string
			Targets     []struct{ Expr string }
		}
		Templating struct{ List []struct{ Query string } }
	}
	unmarshal(t, b, &dashboard)
	for _, p := range dashboard.Panels {
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("panel %q asks nothing", p.Title)
		}
		for _, target := range p.Targets {
			out["dashboard.json"] = append(out["dashboard.json"], target.Expr)
		}
	}
	for _, v := range dashboard.Templating.List {
		out["dashboard.json"] = append(out["dashboard.json"], v.Query)
	}
	return out
}

// checkMonitoring returns what expressions ask for that a peer's metrics do not have.
func checkMonitoring(expressions []string, families []*dto.MetricFamily) (faults []string) {
	labels := map[string][]string{}
	for _, f := range families {
		names := []string{"job", "instance"}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				names = append(names, l.GetName())
			}
		}
		labels[f.GetName()] = names
		if f.GetType() == dto.MetricType_HISTOGRAM {
			labels[f.GetName()+"_bucket"] = append(slices.Clone(names), "le")
			labels[f.GetName()+"_sum"], labels[f.GetName()+"_count"] = names, names
			delete(labels, f.GetName()) // it has no series of its own name
		}
	}
	for _, e := range expressions {
		var all []string
		for _, m := range metricName.FindAllStringSubmatch(e, -1) {
			have, ok := labels[m[1]]
			if !ok {
				faults = append(faults, m[1]+" is no metric: "+e)
				continue
			}
			all = append(all, have...)
			for _, l := range matcher.FindAllStringSubmatch(m[2], -1) {
				if !slices.Contains(have, l[1]) {
					faults = append(faults, m[1]+" has no label "+l[1]+": "+e)
				}
			}
		}
		if len(all) == 0 {
			continue // of other metrics than ours
		}
		for _, m := range aggregated.FindAllStringSubmatch(e, -1) {
			for l := range strings.SplitSeq(m[1], ",") {
				if l = strings.TrimSpace(l); !slices.Contains(all, l) {
					faults = append(faults, "none of its metrics has a label "+l+": "+e)
				}
			}
		}
	}
	return faults
}

// checkExamples compares examples/monitoring with the metrics of a running peer.
func checkExamples(t *testing.T, families []*dto.MetricFamily) {
	t.Helper()
	for file, es := range expressions(t) {
		if len(es) < 10 {
			t.Errorf("%s: %d expressions are found", file, len(es))
		}
		for _, fault := range checkMonitoring(es, families) {
			t.Errorf("%s: %s", file, fault)
		}
	}
	for _, e := range []string{"fedmesh_nothing > 0", `fedmesh_ready{phase="x"}`, "sum by (phase) (fedmesh_ready)", "rate(fedmesh_push_phase_seconds[1m])"} {
		if len(checkMonitoring([]string{e}, families)) != 1 {
			t.Errorf("nothing is wrong with %s", e)
		}
	}
}

// TestAlerts has promtool check all expressions and run the rules' own tests, where it is installed.
func TestAlerts(t *testing.T) {
	tool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool, of Prometheus, is not installed")
	}
	run := func(args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), tool, args...)
		cmd.Dir = monitoring
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	run("check", "config", "prometheus.yml")
	run("test", "rules", "alerts_test.yml")

	// The dashboard's, as rules: a rule file may be JSON, which is YAML.
	type recording struct {
		Record string `json:"record"`
		Expr   string `json:"expr"`
	}
	var rules []recording
	for _, e := range expressions(t)["dashboard.json"] {
		if strings.HasPrefix(e, "label_values") || e == "prometheus" {
			continue // Grafana's
		}
		e = strings.NewReplacer("$__rate_interval", "5m", "$job", "fedmesh", "$instance", ".*").Replace(e)
		rules = append(rules, recording{"dashboard", e})
	}
	b, err := json.Marshal(map[string]any{"groups": []any{map[string]any{"name": "dashboard", "rules": rules}}})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "dashboard.yml")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	run("check", "rules", "--lint=none", path)
}
