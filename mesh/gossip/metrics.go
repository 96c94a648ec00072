package gossip

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are kept whether or not there is a registry.
type metrics struct {
	registry prometheus.Registerer
	all      []prometheus.Collector

	sent          *prometheus.CounterVec
	sentBytes     prometheus.Counter
	received      prometheus.Counter
	receivedBytes prometheus.Counter
	dropped       *prometheus.CounterVec
	conflicts     prometheus.Counter
	joins         *prometheus.CounterVec
	rtt           prometheus.Histogram
}

func newMetrics(registry prometheus.Registerer) *metrics {
	const ns, sub = "fedmesh", "gossip"
	m := &metrics{registry: registry}
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: ns, Subsystem: sub, Name: name, Help: help})
		m.all = append(m.all, c)
		return c
	}
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: ns, Subsystem: sub, Name: name, Help: help}, labels)
		m.all = append(m.all, c)
		return c
	}
	m.sent = vec("sent_messages_total", "Messages sent, by way: datagram, stream, or gossip queue.", "way")
	m.sentBytes = counter("sent_bytes_total", "Bytes of messages sent by datagram and stream.")
	m.received = counter("received_messages_total", "Messages received.")
	m.receivedBytes = counter("received_bytes_total", "Bytes of messages received.")
	m.dropped = vec("dropped_total", "Messages and states dropped, by queue and reason.", "queue", "reason")
	m.conflicts = counter("name_conflicts_total", "Times another member claimed a name in use.")
	m.joins = vec("joins_total", "Attempts to reach members that are not alive, by result.", "result")
	m.rtt = prometheus.NewHistogram(prometheus.HistogramOpts{
		Namespace: ns, Subsystem: sub, Name: "probe_seconds",
		Help:    "Round trips of direct probes.",
		Buckets: prometheus.ExponentialBuckets(0.0001, 4, 8),
	})
	m.all = append(m.all, m.rtt)
	return m
}

func (m *metrics) drop(queue, reason string, n int) {
	if n > 0 {
		m.dropped.WithLabelValues(queue, reason).Add(float64(n))
	}
}

// gauge adds a gauge that is computed when it is read.
func (m *metrics) gauge(name, help string, labels prometheus.Labels, f func() int) {
	m.all = append(m.all, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "fedmesh", Subsystem: "gossip", Name: name, Help: help, ConstLabels: labels,
	}, func() float64 { return float64(f()) }))
}

func (m *metrics) register() error {
	if m.registry == nil {
		return nil
	}
	for i, c := range m.all {
		if err := m.registry.Register(c); err != nil {
			for _, done := range m.all[:i] {
				m.registry.Unregister(done)
			}
			if are := (prometheus.AlreadyRegisteredError{}); errors.As(err, &are) {
				return fmt.Errorf("gossip: metrics: %w: give each member a registry of its own or wrap it with a label", err)
			}
			return fmt.Errorf("gossip: metrics: %w", err)
		}
	}
	return nil
}

func (m *metrics) unregister() {
	if m.registry == nil {
		return
	}
	for _, c := range m.all {
		m.registry.Unregister(c)
	}
}
