package mesh

import (
	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the peer's own; gossip and the API server have theirs.
type metrics struct {
	registry   prometheus.Registerer
	collectors []prometheus.Collector

	updates     *prometheus.CounterVec
	sums        *prometheus.CounterVec
	snapshots   *prometheus.CounterVec
	compactions prometheus.Counter
	entries     prometheus.Counter
	lost        prometheus.Counter
	forks       prometheus.Counter
	repaired    prometheus.Counter
	damaged     prometheus.Counter
	bytesIn     prometheus.Counter
	compute     prometheus.Histogram
}

// figures are read off the ledger when the metrics are.
type figures struct {
	entries, nonFinal, rounds uint64
	outside, alive, divergent int
	forgetting, forgotten     int
}

func newMetrics(r prometheus.Registerer, p *Peer) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "fedmesh", Name: name, Help: help})
	}
	vector := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "fedmesh", Name: name, Help: help}, []string{label})
	}
	gauge := func(name, help string, f func(figures) float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "fedmesh", Name: name, Help: help}, func() float64 { return f(p.count()) })
	}
	m := &metrics{
		registry:    r,
		updates:     vector("updates_total", "Updates received, by result.", "result"),
		sums:        vector("sums_total", "Exact sums over labels, by what was done with them.", "what"),
		snapshots:   vector("snapshots_total", "States of the ledger given to other peers, and taken from them.", "way"),
		compactions: counter("compactions_total", "Times that the ledger was compacted behind final rounds."),
		entries:     counter("entries_admitted_total", "Ledger entries admitted since the start."),
		lost:        counter("updates_lost_total", "Words that an update was lost for a round."),
		forks:       counter("log_forks_total", "Logs found with two contents. Never expected."),
		damaged:     counter("blobs_damaged_total", "Models and updates whose bytes on this disk changed by themselves."),
		repaired:    counter("updates_repaired_total", "Copies made because too few living peers held an update."),
		bytesIn:     counter("fetched_bytes_total", "Bytes of models and updates fetched from other peers."),
		compute: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "fedmesh", Name: "compute_seconds", Help: "Time to compute a round's model, fetching included.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 16),
		}),
	}
	m.collectors = []prometheus.Collector{
		m.updates, m.sums, m.snapshots, m.compactions, m.entries, m.lost, m.forks, m.repaired, m.damaged, m.bytesIn, m.compute,
		gauge("ledger_entries", "Entries of all logs held here.", func(f figures) float64 { return float64(f.entries) }),
		gauge("ledger_entries_waiting", "Entries that wait for what they name.", func(f figures) float64 { return float64(f.outside) }),
		gauge("peers_alive", "Peers taken for alive, this one included.", func(f figures) float64 { return float64(f.alive) }),
		gauge("peers_forgetting", "Dead peers that shall be forgotten once all who have a say agree.", func(f figures) float64 { return float64(f.forgetting) }),
		gauge("peers_forgotten", "Dead peers that are forgotten: nobody waits for them.", func(f figures) float64 { return float64(f.forgotten) }),
		gauge("rounds", "Rounds of all sessions that were sealed.", func(f figures) float64 { return float64(f.rounds) }),
		gauge("rounds_not_final", "Sealed rounds that some member has not confirmed.", func(f figures) float64 { return float64(f.nonFinal) }),
		gauge("divergences", "Rounds with two models from the same inputs. Never expected.", func(f figures) float64 { return float64(f.divergent) }),
	}
	if r != nil {
		r.MustRegister(m.collectors...)
	}
	return m
}

func (m *metrics) close() {
	if m.registry == nil {
		return
	}
	for _, c := range m.collectors {
		m.registry.Unregister(c)
	}
}
