package ledger_test

import (
	"fmt"
	"slices"
	"strings"

	"pgregory.net/rapid"

	"github.com/fedmesh/fedmesh/mesh/ledger"
	"github.com/fedmesh/fedmesh/model"
)

// mesh is a few ledgers that say random things, well formed but often foolish, and hear some of what the others say.
type mesh struct {
	t    *rapid.T
	ls   []*ledger.Ledger
	ids  []ledger.LogID
	key  ledger.SessionKey
	each func(l *ledger.Ledger) // called after every change of a ledger
}

func newMesh(t *rapid.T, each func(*ledger.Ledger)) *mesh {
	m := &mesh{t: t, each: each}
	for i := range rapid.IntRange(2, 5).Draw(t, "peers") {
		m.ls = append(m.ls, ledger.New())
		m.ids = append(m.ids, ledger.LogID{byte('a' + i)})
		m.say(i, &ledger.PeerJoined{Name: string(rune('a' + i)), Mesh: "m"})
	}
	for i := range m.ls {
		m.hear(0, i, 1<<30)
	}
	config := ledger.Config{Strategy: "fedavg", MinCombiners: uint32(rapid.IntRange(0, 2).Draw(t, "min")), Copies: 1}
	founders := m.ids[:rapid.IntRange(1, len(m.ids)).Draw(t, "founders")]
	seed := model.Sum([]byte("seed"))
	m.key = ledger.NewSessionKey("s", config, seed, founders)
	m.say(0, &ledger.SessionOpened{Session: m.key, Name: "s", Config: config, Seed: seed, Members: founders})
	for i := range m.ls {
		m.hear(i, 0, 1<<30)
	}
	return m
}

func (m *mesh) say(i int, b ledger.Body) {
	if _, err := m.ls[i].Append(m.ids[i], b); err == nil && m.each != nil {
		m.each(m.ls[i])
	}
}

// hear merges up to n entries of each log that peer j holds into peer i.
func (m *mesh) hear(i, j, n int) {
	for _, log := range m.ls[j].Vector().Logs() {
		have := m.ls[i].Vector()[log]
		for _, e := range m.ls[j].Range(log, have, min(have+uint64(n), m.ls[j].Vector()[log])) {
			if _, err := m.ls[i].Add(e); err != nil {
				m.t.Fatal(err)
			}
		}
	}
	if m.each != nil {
		m.each(m.ls[i])
	}
}

// run takes n random steps.
func (m *mesh) run(n int) {
	for range n {
		i := rapid.IntRange(0, len(m.ls)-1).Draw(m.t, "peer")
		if rapid.IntRange(0, 2).Draw(m.t, "hear") == 0 {
			m.hear(i, rapid.IntRange(0, len(m.ls)-1).Draw(m.t, "from"), rapid.IntRange(1, 9).Draw(m.t, "most"))
			continue
		}
		m.say(i, m.body(i))
	}
}

func (m *mesh) body(i int) ledger.Body {
	t, l, s := m.t, m.ls[i], m.ls[i].Session(m.key)
	combiner := rapid.SampledFrom([]string{"x", "y", "z"}).Draw(t, "combiner")
	id := rapid.SampledFrom([]string{"1", "2"}).Draw(t, "id")
	if s == nil {
		return &ledger.SessionClosed{Session: m.key}
	}
	n := uint64(rapid.IntRange(1, int(s.Open())).Draw(t, "round"))
	switch rapid.IntRange(0, 19).Draw(t, "kind") {
	case 0:
		return &ledger.PeerJoined{Name: "again", Mesh: "m"}
	case 1:
		if rapid.IntRange(0, 5).Draw(t, "really") == 0 {
			return &ledger.PeerLeft{Seen: l.Vector().Clone()}
		}
		return &ledger.SessionClosed{Session: m.key}
	case 2:
		targets := rapid.SliceOfNDistinct(rapid.SampledFrom(m.ids), 1, 2, rapid.ID[ledger.LogID]).Draw(t, "targets")
		slices.SortFunc(targets, ledger.LogID.Compare)
		return &ledger.PeerForgotten{Targets: targets}
	case 3, 4, 5:
		if p := proposals(l); len(p) > 0 {
			e := rapid.SampledFrom(p).Draw(t, "proposal")
			upto := ledger.Vector{}
			forgotten, ok := e.Body.(*ledger.PeerForgotten)
			if !ok {
				t.Fatalf("%T is no proposal", e.Body)
			}
			for _, target := range forgotten.Targets {
				upto[target] = l.Vector()[target]
			}
			return &ledger.ForgetAcknowledged{Proposal: e.Ref(), Upto: upto}
		}
		return &ledger.UpdateDropped{Session: m.key, Combiner: combiner, ID: id}
	case 6, 7, 8, 9:
		return &ledger.UpdateHeld{
			Session: m.key, Combiner: combiner, ID: id, Base: s.Seed(), BaseRound: uint64(rapid.IntRange(0, 2).Draw(t, "base")),
			Model: model.Sum([]byte{byte(rapid.IntRange(0, 1).Draw(t, "content"))}), Weight: rapid.SampledFrom([]uint64{1, 2, ledger.MaxWeight}).Draw(t, "weight"),
		}
	case 10:
		return &ledger.UpdateDropped{Session: m.key, Combiner: combiner, ID: id}
	case 11:
		return &ledger.UpdateLost{Session: m.key, Combiner: combiner, ID: id, Round: n, Inputs: inputs(s, n)}
	case 12:
		return skip(s, n, n+uint64(rapid.IntRange(0, 2).Draw(t, "more")), l.Vector().Clone())
	case 13, 14, 15:
		if n < s.Open() {
			r := s.Round(n)
			return &ledger.RoundComputed{Session: m.key, Round: n, Inputs: r.Inputs, Result: ledger.Result{Model: model.Sum(r.Inputs[:])}, Seen: l.Vector().Clone()}
		}
	}
	return &ledger.RoundSealed{Session: m.key, Round: n, Cut: l.Vector().Clone()}
}

func proposals(l *ledger.Ledger) []*ledger.Entry {
	var out []*ledger.Entry
	for _, e := range entries(l) {
		if e.Body.Kind() == ledger.KindPeerForgotten {
			out = append(out, e)
		}
	}
	return out
}

// entries returns everything that a ledger holds, log by log.
func entries(l *ledger.Ledger) []*ledger.Entry {
	var out []*ledger.Entry
	for _, log := range l.Vector().Logs() {
		out = append(out, l.Range(log, 0, l.Vector()[log])...)
	}
	return out
}

// union returns every entry that anybody holds.
func (m *mesh) union() []*ledger.Entry {
	var out []*ledger.Entry
	for i, l := range m.ls {
		out = append(out, l.Range(m.ids[i], 0, l.Vector()[m.ids[i]])...)
	}
	return out
}

// fingerprint says everything that is derived from a ledger.
func fingerprint(l *ledger.Ledger) string {
	var b strings.Builder
	for _, log := range l.Vector().Logs() {
		fmt.Fprintf(&b, "%s:%d ", log.Short(), l.Vector()[log])
	}
	fmt.Fprintf(&b, "\npeers %v\n", l.Peers())
	for _, s := range l.Sessions() {
		closing, last := s.Closing()
		updates, lost := s.Waiting()
		pending, combiners := s.Pending()
		fmt.Fprintf(&b, "session %s open %d final %d closing %v %d waiting %s %v pending %s %d members %s\n", s.Key().Short(), s.Open(), s.Final(),
			closing, last, keysOf(updates), lost, keysOf(pending), combiners, names(s.Members(s.Open())))
		for n := range s.Open() {
			r := s.Round(n)
			d, ok := s.Model(n)
			fmt.Fprintf(&b, " round %d members %s cut %v content %s weight %d inputs %s model %s %v", n, names(r.Members), r.Cut, keysOf(r.Content), r.Weight,
				r.Inputs.Short(), d.Short(), ok)
			if n > 0 {
				fmt.Fprintf(&b, " owed by %s lost %v computed %v", names(s.WaitingFor(n)), s.LostIn(n), s.ComputedBy(n))
			}
			b.WriteByte('\n')
		}
		for _, k := range s.Keys() {
			holders, _ := s.Holders(k)
			n, placed := s.PlacedIn(k)
			fmt.Fprintf(&b, " %v held by %s in %d %v known %s\n", k, names(holders), n, placed, s.Known(k).Model.Short())
		}
		fmt.Fprintf(&b, " conflicts %d divergences %v\n", len(s.Conflicts()), s.Divergences())
	}
	return b.String()
}

// scratch derives from the same entries in one go.
func scratch(t interface{ Fatal(...any) }, l *ledger.Ledger) *ledger.Ledger {
	return load(t, entries(l))
}

func load(t interface{ Fatal(...any) }, es []*ledger.Entry) *ledger.Ledger {
	l := ledger.New()
	for _, e := range es {
		if _, err := l.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	return l
}
