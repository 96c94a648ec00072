package gossip_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/fedmesh/fedmesh/mesh/gossip"
)

// TestMemberlistLines checks what becomes of memberlist's own lines.
func TestMemberlistLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		w := gossip.NewLineWriter(zerolog.New(&out))
		say := func(lines ...string) (got []string) {
			t.Helper()
			out.Reset()
			for _, l := range lines {
				if n, err := w.Write([]byte(l)); n != len(l) || err != nil {
					t.Fatalf("%d of %d, %v", n, len(l), err)
				}
			}
			for l := range strings.Lines(out.String()) {
				var e struct{ Level, Message, Part string }
				if err := json.Unmarshal([]byte(l), &e); err != nil || e.Part != "memberlist" {
					t.Fatalf("%q: %v", l, err)
				}
				got = append(got, e.Level+" "+e.Message)
			}
			return got
		}
		got := say("[DEBUG] memberlist: Stream connection from=1.2.3.4:5\n", "[INFO] memberlist: Suspect b has failed, no acks received\n",
			"[WARN] memberlist: Got ping for unexpected node 'x' from=1\n", "[ERR] memberlist: Push/Pull with b failed: EOF\n",
			"[ERR] memberlist: Push/Pull with b failed: timeout\n", "[ERR] memberlist: Push/Pull with c failed: EOF\n", "no level: x\n", "", "]", "[",
			"[ERR] memberlist: "+strings.Repeat("a", 5000))
		want := []string{
			"debug Stream connection from=1.2.3.4", "debug Suspect b has failed, no acks received", "warn Got ping for unexpected node 'x' from=1",
			"warn Push/Pull with b failed", "debug Push/Pull with b failed", "warn Push/Pull with c failed", "warn no level", "warn ", "warn ]", "warn [", "warn aaa",
		}
		if len(got) != len(want) {
			t.Fatalf("%d lines: %q", len(got), got)
		}
		for i := range want {
			if !strings.HasPrefix(got[i], want[i]) || len(got[i]) > 1024+10 {
				t.Errorf("line %d: %q, want %q", i, got[i], want[i])
			}
		}
		time.Sleep(time.Minute)
		if got := say("[ERR] memberlist: Push/Pull with b failed: EOF\n"); len(got) != 1 || !strings.HasPrefix(got[0], "warn") {
			t.Errorf("after a minute: %q", got)
		}
	})
}

// TestMemberlistMetrics checks that memberlist's metrics arrive, in seconds and under the names of Prometheus.
func TestMemberlistMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	undo, err := gossip.ExportMemberlist(registry)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := gossip.ExportMemberlist(registry); err == nil {
		t.Error("exported twice to one registry")
	}
	synctest.Test(t, func(t *testing.T) {
		startFive(t, newNetwork(t, 1), nil)
		time.Sleep(10 * time.Second)
	})
	values := map[string]float64{}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			values[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	for _, name := range []string{
		"fedmesh_memberlist_messages_total alive", "fedmesh_memberlist_streams_total accepted", "fedmesh_memberlist_streams_total dialled",
		"fedmesh_memberlist_work_seconds probe", "fedmesh_memberlist_work_seconds gossip", "fedmesh_memberlist_state_sent_bytes",
	} {
		if values[name] == 0 {
			t.Errorf("%s is 0 among %v", name, values)
		}
	}
	undo()
	if families, err := registry.Gather(); err != nil || len(families) != 0 {
		t.Errorf("%d families are left, %v", len(families), err)
	}
}

// TestWireBytes checks that what goes over the network is counted at both ends.
func TestWireBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes := startFive(t, newNetwork(t, 1), nil)
		time.Sleep(5 * time.Second)
		var in, out float64
		for _, way := range []string{"datagram", "stream"} {
			for _, nd := range nodes {
				r, s := nd.metric(t, "wire_received_bytes_total", "way="+way), nd.metric(t, "wire_sent_bytes_total", "way="+way)
				if r == 0 || s == 0 {
					t.Errorf("%s: %v bytes in, %v out by %s", nd.name, r, s, way)
				}
				in, out = in+r, out+s
			}
		}
		if in > out || in < out*0.9 { // some are on their way, or were sent to a member that did not listen yet
			t.Errorf("%v bytes in, %v out", in, out)
		}
	})
}
