package gossip

import (
	"errors"
	"fmt"
	"net"

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
	wireSent      *prometheus.CounterVec
	wireReceived  *prometheus.CounterVec
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
	m.wireSent = vec("wire_sent_bytes_total", "Bytes given to the network, probes and all else of memberlist's included, by way.", "way")
	m.wireReceived = vec("wire_received_bytes_total", "Bytes that came from the network, those that were refused included, by way.", "way")
	m.dropped = vec("dropped_total", "Messages and states dropped, by queue and reason.", "queue", "reason")
	m.conflicts = counter("name_conflicts_total", "Times another member claimed a name in use.")
	m.joins = vec("joins_total", "Attempts to reach members that are not alive, by result.", "result")
	m.rtt = prometheus.NewHistogram(prometheus.HistogramOpts{
		Namespace: ns, Subsystem: sub, Name: "probe_seconds",
		Help:    "Round trips of direct probes.",
		Buckets: prometheus.ExponentialBuckets(0.0001, 4, 8),
	})
	m.all = append(m.all, m.rtt)
	// A series is there from the start, or its first step would be seen by no rate.
	for _, way := range []string{wayDatagram, wayStream} {
		m.sent.WithLabelValues(way)
		m.wireSent.WithLabelValues(way)
		m.wireReceived.WithLabelValues(way)
	}
	m.sent.WithLabelValues("gossip")
	for _, result := range []string{"ok", "failed"} {
		m.joins.WithLabelValues(result)
	}
	for queue, reasons := range dropReasons {
		for _, reason := range reasons {
			m.dropped.WithLabelValues(queue, reason)
		}
	}
	return m
}

// The ways of bytes on the wire.
const (
	wayDatagram = "datagram"
	wayStream   = "stream"
)

// dropReasons are the queues that drop something, and why they do.
var dropReasons = map[string][]string{
	"state":    {"too_large"},
	"inbound":  {"full"},
	"gossip":   {"full"},
	"send":     {"gone", "too_large", "closed"},
	"datagram": {"full", "gone", "failed"},
	"stream":   {"full", "gone", "failed", "closed", reasonMalformed, reasonPlain, reasonSealed, reasonUnauthentic, reasonReplayed},
	"packet":   {reasonMalformed, reasonPlain, reasonUnauthentic, reasonReplayed},
}

// meter is a connection whose bytes are counted.
type meter struct {
	net.Conn
	m *metrics
}

// Read implements net.Conn.
func (c meter) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.m.wireReceived.WithLabelValues(wayStream).Add(float64(n))
	return n, err
}

// Write implements net.Conn.
func (c meter) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.m.wireSent.WithLabelValues(wayStream).Add(float64(n))
	return n, err
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
