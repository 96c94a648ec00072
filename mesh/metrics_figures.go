package mesh

import (
	"math"
	"runtime"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/ledger"
)

// Names of sessions and peers are labels, so their number is bounded: a Prometheus keeps every series that it ever saw. Sessions are listed
// that are not over, those of whom a round was sealed last first; what is over, and what is beyond the bound, is only counted. Peers are
// listed that are expected back: those that left or were forgotten are not.
const (
	labelledSessions = 32
	labelledPeers    = 128
)

// figures are read off the ledger and the disk when the metrics are asked for.
type figures struct {
	p     *Peer
	descs []*prometheus.Desc

	ready, build                                             *prometheus.Desc
	entries, waiting                                         *prometheus.Desc
	alive, forgetting, forgotten, peerUp, peerLag, peerAhead *prometheus.Desc
	notFinal, divergences, thin                              *prometheus.Desc
	sessions, unlisted, open, final, pending, sealed         *prometheus.Desc
	blobs, blobBytes, blobLimit, arriving, logSize, snapshot *prometheus.Desc
	uploads, uploadBytes                                     *prometheus.Desc
}

func newFigures(p *Peer) *figures {
	f := &figures{p: p}
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		d := prometheus.NewDesc("fedmesh_"+name, help, labels, nil)
		f.descs = append(f.descs, d)
		return d
	}
	f.ready = desc("ready", "1 once this peer takes part, as /readyz says.")
	f.build = desc("build_info", "1; what this peer was built from.", "version", "goversion")
	f.entries = desc("ledger_entries", "Entries of all logs held here.")
	f.waiting = desc("ledger_entries_waiting", "Entries that wait for what they name.")
	f.alive = desc("peers_alive", "Peers taken for alive, this one included.")
	f.forgetting = desc("peers_forgetting", "Dead peers that shall be forgotten once all who have a say agree.")
	f.forgotten = desc("peers_forgotten", "Dead peers that are forgotten: nobody waits for them.")
	f.peerUp = desc("peer_up", "1 while this peer takes another for alive; those that left or were forgotten are not listed.", "peer")
	f.peerLag = desc("peer_behind_entries", "Ledger entries held here that another peer, as far as it has said, lacks.", "peer")
	f.peerAhead = desc("peer_ahead_entries", "Ledger entries that another peer has said it holds and that are not here.", "peer")
	f.notFinal = desc("rounds_not_final", "Sealed rounds that some member has not confirmed.")
	f.divergences = desc("divergences", "Rounds with two models from the same inputs. Never expected.")
	f.thin = desc("updates_underreplicated", "Updates of rounds that are not final with fewer living holders than their session asks for.")
	f.sessions = desc("sessions", "Sessions known, by state.", "state")
	f.unlisted = desc("sessions_unlisted", "Sessions that are not over and that the metrics of sessions leave out, since there are too many.")
	f.open = desc("session_open_round", "The open round of a session.", "session")
	f.final = desc("session_final_round", "The last final round of a session.", "session")
	f.pending = desc("session_pending_updates", "Updates that the open round of a session has so far.", "session")
	f.sealed = desc("session_sealed_timestamp_seconds", "When a round of a session was last sealed, or this peer began to look.", "session")
	f.blobs = desc("blobs", "Models, updates and server states on the disk.")
	f.blobBytes = desc("blobs_bytes", "Bytes of models, updates and server states on the disk.")
	f.blobLimit = desc("blobs_limit_bytes", "Bytes of these beyond which updates are refused; +Inf without a limit.")
	f.arriving = desc("blobs_arriving_bytes", "Bytes set aside for updates that are on their way.")
	f.logSize = desc("log_bytes", "Bytes of the log on the disk, the snapshot not included.")
	f.snapshot = desc("log_snapshot_bytes", "Bytes of the snapshot that stands for what was compacted.")
	f.uploads = desc("uploads", "Resumable uploads under way.")
	f.uploadBytes = desc("uploads_received_bytes", "Bytes taken of resumable uploads that are under way; they are on the disk.")
	return f
}

// Describe implements prometheus.Collector.
func (f *figures) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range f.descs {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (f *figures) Collect(ch chan<- prometheus.Metric) {
	for _, m := range f.measure() { // handed over without the lock: who reads may be slow
		ch <- m
	}
}

// measured is the metrics of one collection.
type measured []prometheus.Metric

func (m *measured) gauge(d *prometheus.Desc, v float64, labels ...string) {
	*m = append(*m, prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...))
}

func (f *figures) measure() (out measured) {
	p := f.p
	stats := p.dir.Log().Stats()
	uploads, taken := p.uploads.Stats()
	limit := math.Inf(1)
	if p.cfg.MaxDisk > 0 {
		limit = float64(p.cfg.MaxDisk)
	}
	out.gauge(f.build, 1, p.cfg.Version, runtime.Version())
	out.gauge(f.blobs, float64(len(p.dir.Blobs().List())))
	out.gauge(f.blobBytes, float64(p.dir.Blobs().Usage()))
	out.gauge(f.blobLimit, limit)
	out.gauge(f.logSize, float64(stats.Segments))
	out.gauge(f.snapshot, float64(stats.Snapshot))
	out.gauge(f.uploads, float64(uploads))
	out.gauge(f.uploadBytes, float64(taken))

	p.mu.Lock()
	defer p.mu.Unlock()
	if p.replica == nil { // the log is still being read
		return out
	}
	l := p.replica.Ledger()
	var entries uint64
	for _, n := range l.Vector() {
		entries += n
	}
	ready := 0.0
	if p.ready() == nil {
		ready = 1
	}
	forgetting, forgotten := p.countForgotten()
	out.gauge(f.ready, ready)
	out.gauge(f.entries, float64(entries))
	out.gauge(f.waiting, float64(l.Outside()))
	out.gauge(f.alive, float64(len(p.living())+1))
	out.gauge(f.forgetting, float64(forgetting))
	out.gauge(f.forgotten, float64(forgotten))
	out.gauge(f.arriving, float64(p.reserved))
	f.measurePeers(&out, l)
	f.measureSessions(&out, l)
	return out
}

// measurePeers is called with p.mu held.
func (f *figures) measurePeers(out *measured, l *ledger.Ledger) {
	p := f.p
	listed := map[string]bool{}
	list := func(log ledger.LogID, name string, up float64) {
		if log == p.self || listed[name] || len(listed) >= labelledPeers {
			return
		}
		listed[name] = true
		out.gauge(f.peerUp, up, name)
		out.gauge(f.peerLag, float64(p.vectors[log].Missing(l.Vector())), name)
		out.gauge(f.peerAhead, float64(l.Vector().Missing(p.vectors[log])), name)
	}
	for _, t := range p.living() { // first, since a name may have had another log before
		list(t.log, t.name, 1)
	}
	for _, q := range l.Peers() {
		if state, _ := p.forgetState(q.Log); !q.Left && !p.members[q.Log].left && state != api.PeerForgotten {
			list(q.Log, q.Name, 0)
		}
	}
}

// measureSessions is called with p.mu held.
func (f *figures) measureSessions(out *measured, l *ledger.Ledger) {
	p := f.p
	states := map[string]int{}
	notFinal, divergences, thin := uint64(0), 0, 0
	var running []*ledger.Session // ascending by name, one of a name
	for _, s := range l.Sessions() {
		state := sessionState(s)
		states[state]++
		notFinal += s.Open() - 1 - s.Final()
		divergences += len(s.Divergences())
		thin += p.underreplicated(s)
		switch last := len(running) - 1; {
		case state == api.SessionClosed:
		case last >= 0 && running[last].Name() == s.Name():
			running[last], _ = l.Resolve(s.Name()) // of several, that which the name stands for
		default:
			running = append(running, s)
		}
	}
	for _, state := range []string{api.SessionOpen, api.SessionClosing, api.SessionClosed} {
		out.gauge(f.sessions, float64(states[state]), state)
	}
	out.gauge(f.notFinal, float64(notFinal))
	out.gauge(f.divergences, float64(divergences))
	out.gauge(f.thin, float64(thin))
	slices.SortStableFunc(running, func(a, b *ledger.Session) int {
		return p.local(b.Key()).times.last.Compare(p.local(a.Key()).times.last)
	})
	out.gauge(f.unlisted, float64(max(0, len(running)-labelledSessions)))
	for _, s := range running[:min(len(running), labelledSessions)] {
		pending, _ := s.Pending()
		out.gauge(f.open, float64(s.Open()), s.Name())
		out.gauge(f.final, float64(s.Final()), s.Name())
		out.gauge(f.pending, float64(len(pending)), s.Name())
		if last := p.local(s.Key()).times.last; !last.IsZero() {
			out.gauge(f.sealed, float64(last.UnixMilli())/1000, s.Name())
		}
	}
}

// underreplicated counts the updates of a session that fewer living peers hold than it asks for. It is called with p.mu held.
func (p *Peer) underreplicated(s *ledger.Session) (n int) {
	count := func(us []*ledger.UpdateHeld) {
		for _, u := range us {
			holders := 0
			for _, log := range s.HoldersOf(u) {
				if p.replica.Alive(log) {
					holders++
				}
			}
			if holders < int(s.Config().Copies) {
				n++
			}
		}
	}
	for r := s.Final() + 1; r < s.Open(); r++ {
		count(s.Round(r).Content)
	}
	pending, _ := s.Pending()
	count(pending)
	return n
}
