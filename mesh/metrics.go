package mesh

import (
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the peer's own; gossip and the API server have theirs. What is read off the ledger when metrics are asked for is in
// metrics_figures.go. METRICS.md lists them all.
type metrics struct {
	registry   prometheus.Registerer
	collectors []prometheus.Collector

	updates     *prometheus.CounterVec
	rounds      *prometheus.CounterVec
	sums        *prometheus.CounterVec
	snapshots   *prometheus.CounterVec
	compactions prometheus.Counter
	entries     prometheus.Counter
	lost        prometheus.Counter
	forks       prometheus.Counter
	repaired    prometheus.Counter
	damaged     prometheus.Counter
	stalls      prometheus.Counter
	bytesIn     prometheus.Counter
	received    *prometheus.CounterVec
	sent        *prometheus.CounterVec
	calls       *prometheus.CounterVec
	push        *prometheus.HistogramVec
	round       *prometheus.HistogramVec
}

// phaseBuckets are those of all that is timed here: from what is over at once to what takes half an hour.
var phaseBuckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800}

// planes are what peers ask of each other, by the first part of the path; all else is "other".
var planes = []string{"entries", "snapshot", "updates", "uploads", "sessions", "blobs", "sums", "keys", "other"}

// plane returns what a request between peers is about.
func plane(path string) string {
	what, _, _ := strings.Cut(strings.TrimPrefix(path, "/v1/peer/"), "/")
	if slices.Contains(planes, what) {
		return what
	}
	return "other"
}

func newMetrics(r prometheus.Registerer, p *Peer) *metrics {
	m := &metrics{registry: r}
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: "fedmesh", Name: name, Help: help})
		m.collectors = append(m.collectors, c)
		return c
	}
	// A series is there from the start, or its first step would be seen by no rate.
	vector := func(name, help, label string, values ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "fedmesh", Name: name, Help: help}, []string{label})
		for _, v := range values {
			c.WithLabelValues(v)
		}
		m.collectors = append(m.collectors, c)
		return c
	}
	phases := func(name, help string, phases ...string) *prometheus.HistogramVec {
		h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: "fedmesh", Name: name, Help: help, Buckets: phaseBuckets}, []string{"phase"})
		for _, ph := range phases {
			h.WithLabelValues(ph)
		}
		m.collectors = append(m.collectors, h)
		return h
	}
	m.updates = vector("updates_total", "Updates received, by result: accepted, duplicate or refused where a combiner pushed them, copied where another peer did.",
		"result", "accepted", "duplicate", "refused", "copied")
	m.lost = counter("updates_lost_total", "Words that an update was lost for a round, by any peer.")
	m.repaired = counter("updates_repaired_total", "Copies made because too few living peers held an update.")
	m.rounds = vector("rounds_total", "Rounds, by what became of them here: sealed, computed, taken from another peer, amended once there was a model, final.",
		"event", "sealed", "computed", "taken", "amended", "final")
	m.sums = vector("sums_total", "Exact sums over labels, by what was done with them: gossiped or served to others, received by gossip or asked of others.",
		"what", "gossiped", "served", "received", "asked")
	m.snapshots = vector("snapshots_total", "States of the ledger given to other peers, and taken from them.", "way", "given", "taken")
	m.compactions = counter("compactions_total", "Times that the ledger was compacted behind final rounds.")
	m.entries = counter("ledger_entries_admitted_total", "Ledger entries admitted, own ones included.")
	m.forks = counter("log_forks_total", "Logs found with two contents. Never expected.")
	m.damaged = counter("blobs_damaged_total", "Models and updates whose bytes on this disk changed by themselves.")
	m.stalls = counter("stalls_total", "Times that this peer stood still for seconds: it was stopped, or had no processor.")
	m.bytesIn = counter("blobs_fetched_bytes_total", "Bytes of whole models and updates fetched from other peers.")
	m.received = vector("peer_received_bytes_total", "Bytes of bodies that came from other peers' HTTP interfaces, by what was asked for.", "what", planes...)
	m.sent = vector("peer_sent_bytes_total", "Bytes of bodies that went to other peers by HTTP, by what was asked for.", "what", planes...)
	m.calls = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "fedmesh", Name: "peer_calls_total",
		Help: "Requests made of other peers, by what was asked for and result: ok, refused by an answer, failed without one.",
	}, []string{"what", "result"})
	for _, what := range planes {
		for _, result := range []string{"ok", "refused", "failed"} {
			m.calls.WithLabelValues(what, result)
		}
	}
	m.collectors = append(m.collectors, m.calls)
	m.push = phases("push_phase_seconds",
		"Parts of accepting an update: receive, until its last byte is here; sync, until this peer's word for it is durable; copy and acknowledge, from its last byte until enough others hold it and until the answer.",
		"receive", "sync", "copy", "acknowledge")
	m.round = phases("round_phase_seconds",
		"Parts of a round: open, from the seal before to its seal; settle, to a model served here; gather, compute and publish, of that, what it is made of, the model, this peer's durable word; final, from the model to finality.",
		"open", "settle", "gather", "compute", "publish", "final")
	m.collectors = append(m.collectors, newFigures(p))
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
