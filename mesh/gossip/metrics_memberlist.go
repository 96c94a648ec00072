package gossip

import (
	"fmt"
	"strings"

	gometrics "github.com/hashicorp/go-metrics"
	"github.com/prometheus/client_golang/prometheus"
)

// ExportMemberlist has memberlist's own metrics kept in a registry until undo is called. Memberlist gives them to whatever the process has
// set last, for all its members together, so this is for programs that run one.
func ExportMemberlist(registry prometheus.Registerer) (undo func(), err error) {
	s := newMemberlistSink()
	for i, c := range s.all {
		if err := registry.Register(c); err != nil {
			for _, done := range s.all[:i] {
				registry.Unregister(done)
			}
			return nil, fmt.Errorf("gossip: memberlist's metrics: %w", err)
		}
	}
	set := func(to gometrics.MetricSink) error {
		c := gometrics.DefaultConfig("")
		c.EnableHostname, c.EnableRuntimeMetrics = false, false
		_, err := gometrics.NewGlobal(c, to)
		return err
	}
	unregister := func() {
		for _, c := range s.all {
			registry.Unregister(c)
		}
	}
	if err := set(s); err != nil {
		unregister()
		return nil, fmt.Errorf("gossip: memberlist's metrics: %w", err)
	}
	return func() {
		_ = set(&gometrics.BlackholeSink{}) // fails for no config of this kind
		unregister()
	}, nil
}

// memberlistSink keeps what of memberlist's metrics is known here, under names and in units as Prometheus has them; anything else it drops.
// Those that gossip counts itself (members by state, bytes on the wire) are left out. It implements gometrics.MetricSink.
type memberlistSink struct {
	all      []prometheus.Collector
	counters map[string]prometheus.Counter
	gauges   map[string]prometheus.Gauge
	timers   map[string]prometheus.Observer // of milliseconds
}

func newMemberlistSink() *memberlistSink {
	const ns, sub = "fedmesh", "memberlist"
	s := &memberlistSink{counters: map[string]prometheus.Counter{}, gauges: map[string]prometheus.Gauge{}, timers: map[string]prometheus.Observer{}}
	counters := func(name, help, label string, keys map[string]string) {
		vec := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: ns, Subsystem: sub, Name: name, Help: help}, []string{label})
		for key, value := range keys {
			s.counters[key] = vec.WithLabelValues(value)
		}
		s.all = append(s.all, vec)
	}
	gauge := func(key, name, help string) {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Namespace: ns, Subsystem: sub, Name: name, Help: help})
		s.gauges[key] = g
		s.all = append(s.all, g)
	}
	counters("messages_total", "Messages about members, by kind.", "kind",
		map[string]string{"memberlist.msg.alive": "alive", "memberlist.msg.suspect": "suspect", "memberlist.msg.dead": "dead"})
	counters("streams_total", "Streams opened, by who did.", "way", map[string]string{"memberlist.tcp.accept": "accepted", "memberlist.tcp.connect": "dialled"})
	counters("degraded_total", "Signs that this member itself is slow, by kind: a probe sent late, a suspicion that nobody else confirmed.", "kind",
		map[string]string{"memberlist.degraded.probe": "probe", "memberlist.degraded.timeout": "timeout"})
	gauge("memberlist.health.score", "health_score", "How slow this member takes itself for: 0 is well.")
	gauge("memberlist.queue.broadcasts", "queued_broadcasts", "Broadcasts that were queued when one was last sent.")
	gauge("memberlist.size.local", "state_sent_bytes", "Size of the last state handed to another member.")
	gauge("memberlist.size.remote", "state_received_bytes", "Size of the last state taken from another member.")
	work := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: ns, Subsystem: sub, Name: "work_seconds", Help: "Time that memberlist's periodic work took, by kind: probe, gossip, exchange of states.",
		Buckets: prometheus.ExponentialBuckets(0.0001, 4, 10),
	}, []string{"kind"})
	for key, kind := range map[string]string{"memberlist.probeNode": "probe", "memberlist.gossip": "gossip", "memberlist.pushPullNode": "exchange"} {
		s.timers[key] = work.WithLabelValues(kind)
	}
	s.all = append(s.all, work)
	return s
}

// SetGauge implements gometrics.MetricSink.
func (s *memberlistSink) SetGauge(key []string, v float32) { s.SetGaugeWithLabels(key, v, nil) }

// SetGaugeWithLabels implements gometrics.MetricSink.
func (s *memberlistSink) SetGaugeWithLabels(key []string, v float32, _ []gometrics.Label) {
	if g := s.gauges[strings.Join(key, ".")]; g != nil {
		g.Set(float64(v))
	}
}

// EmitKey implements gometrics.MetricSink.
func (s *memberlistSink) EmitKey([]string, float32) {}

// IncrCounter implements gometrics.MetricSink.
func (s *memberlistSink) IncrCounter(key []string, v float32) { s.IncrCounterWithLabels(key, v, nil) }

// IncrCounterWithLabels implements gometrics.MetricSink.
func (s *memberlistSink) IncrCounterWithLabels(key []string, v float32, _ []gometrics.Label) {
	if c := s.counters[strings.Join(key, ".")]; c != nil && v > 0 {
		c.Add(float64(v))
	}
}

// AddSample implements gometrics.MetricSink.
func (s *memberlistSink) AddSample(key []string, v float32) { s.AddSampleWithLabels(key, v, nil) }

// AddSampleWithLabels implements gometrics.MetricSink.
func (s *memberlistSink) AddSampleWithLabels(key []string, v float32, labels []gometrics.Label) {
	if h := s.timers[strings.Join(key, ".")]; h != nil {
		h.Observe(float64(v) / 1000)
		return
	}
	s.SetGaugeWithLabels(key, v, labels)
}
