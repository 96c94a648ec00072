package ledger_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/fedmesh/fedmesh/mesh/ledger"
	"github.com/fedmesh/fedmesh/model"
)

// TestScripts plays testdata/scripts/*.txt: one step a line, "# …" is a comment, and what stands behind a colon is what the step
// must show. Steps of a peer start with its name:
//
//	a holds x/1 [w=3] [base=2] [known=1] [model=m]   hold combiner x's update 1, trained from the model of round 2,
//	                                                 which a knows as that of round 1
//	a drops x/1, a loses x/1 2, a seals 1, a skips 1 3, a computes 1, a closes, a leaves, a joins, a forgets c d,
//	a agrees b        acknowledge b's last proposal
//	a hears b [3]     merge what b holds, or only the first 3 entries of b's own log
//	a sees b c        who is taken for alive
//	a wakes, a stalls whether it has exchanged vectors
//	a tick: sealed 1  decide; these entries follow
//	a works [volatile], a syncs [1], a takes, a deletes 1, a misses x/1    do what the last tick asked for
//	                  (syncs, takes and deletes with "model" or "state" behind them: only that part of what a round gave)
//	a open: 2, a final: 1, a round 1: x/1 y/1, a members 2: a b, a owes 1: b, a waiting: x/1 y/1(lost),
//	a holders x/1: a b, a conflicts: x/1, a weight 1: 8, a has 1: true, a accepts: true, a last: 3, a mayhold x/1: true, a mayleave: true
//
// and of all: "peers a b", "open min=1 target=2 copies=2 members=a,b state=1", "sync [a b]", "at 1500".
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/scripts/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			s := &script{t: t, peers: map[string]*actor{}}
			for i, line := range strings.Split(string(text), "\n") {
				step, _, _ := strings.Cut(line, "#")
				if step = strings.TrimSpace(step); step == "" {
					continue
				}
				s.line = fmt.Sprintf("%s:%d: %s", filepath.Base(file), i+1, step)
				s.step(step)
				for _, a := range s.peers { // step by step is as good as from scratch
					if got, want := fingerprint(a.l), fingerprint(scratch(t, a.l)); got != want {
						t.Fatalf("%s: step by step\n%s\nfrom scratch\n%s", s.line, got, want)
					}
				}
			}
		})
	}
}

type script struct {
	t     *testing.T
	line  string
	now   ledger.Time
	peers map[string]*actor
	order []string
	key   ledger.SessionKey

	stateful bool // rounds give a server state too
}

type actor struct {
	log  ledger.LogID
	l    *ledger.Ledger
	r    *ledger.Replica
	work *ledger.Work
	made ledger.Result // by the last work
}

func (s *script) fail(format string, args ...any) {
	s.t.Helper()
	s.t.Fatalf("%s: %s", s.line, fmt.Sprintf(format, args...))
}

func (s *script) step(step string) {
	do, want, check := strings.Cut(step, ":")
	f := strings.Fields(do)
	opts := map[string]string{}
	f = slices.DeleteFunc(f, func(w string) bool {
		k, v, ok := strings.Cut(w, "=")
		if ok {
			opts[k] = v
		}
		return ok
	})
	if a := s.peers[f[0]]; a != nil {
		got := s.act(a, f[1], f[2:], opts)
		if check && got != strings.TrimSpace(want) {
			s.fail("got %q", got)
		}
		return
	}
	switch f[0] {
	case "peers":
		for _, name := range f[1:] {
			a := &actor{log: ledger.LogID{name[0]}, l: ledger.New()}
			a.r = ledger.NewReplica(a.l, a.log)
			a.r.SetSynced(true)
			s.peers[name] = a
			s.order = append(s.order, name)
			s.say(a, &ledger.PeerJoined{Name: name, Mesh: "m"})
		}
		s.everybodySees()
		s.sync(s.order)
	case "open":
		s.open(opts)
	case "sync":
		if f = f[1:]; len(f) == 0 {
			f = s.order
		}
		s.sync(f)
	case "at":
		s.now = ledger.Time(s.number(f[1]))
	default:
		s.fail("unknown step")
	}
}

func (s *script) everybodySees() {
	for _, a := range s.peers {
		a.r.SetAlive(s.logs(s.order))
	}
}

func (s *script) open(opts map[string]string) {
	n := func(key string) uint32 { return uint32(s.number(opts[key])) }
	members := s.order
	if opts["members"] != "" {
		members = strings.Split(opts["members"], ",")
	}
	c := ledger.Config{
		Strategy: "fedavg", MinCombiners: n("min"), TargetCombiners: n("target"), Copies: n("copies"),
		RoundTimeout: 1000, SettleTimeout: 500, LostAfter: 2000,
	}
	seed := model.Sum([]byte("seed"))
	s.stateful = n("state") > 0
	s.key = ledger.NewSessionKey("s", c, seed, s.logs(members))
	s.say(s.peers[s.order[0]], &ledger.SessionOpened{Session: s.key, Name: "s", Config: c, Seed: seed, Members: s.logs(members)})
	s.sync(s.order)
	for _, a := range s.peers {
		a.r.HoldModel(seed, true)
	}
}

func (s *script) say(a *actor, body ledger.Body) {
	s.t.Helper()
	if _, err := a.r.Append(body); err != nil {
		s.fail("%v", err)
	}
}

func (s *script) number(w string) uint64 {
	if w == "" {
		return 0
	}
	n, err := strconv.ParseUint(w, 10, 64)
	if err != nil {
		s.fail("%v", err)
	}
	return n
}

func (s *script) logs(names []string) []ledger.LogID {
	var out []ledger.LogID
	for _, name := range names {
		if s.peers[name] == nil {
			s.fail("no peer %q", name)
		}
		out = append(out, s.peers[name].log)
	}
	slices.SortFunc(out, ledger.LogID.Compare)
	return out
}

func (s *script) sync(names []string) {
	for range 2 {
		for _, to := range names {
			for _, from := range names {
				merge(s.t, s.peers[to].l, s.peers[from].l)
			}
		}
	}
}

// merge adds everything that from holds to another ledger.
func merge(t interface{ Fatal(...any) }, to, from *ledger.Ledger) {
	for _, log := range from.Vector().Logs() {
		for _, e := range from.Range(log, to.Vector()[log], from.Vector()[log]) {
			if _, err := to.Add(e); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func names(logs []ledger.LogID) string {
	var out []string
	for _, l := range logs {
		out = append(out, string(rune(l[0])))
	}
	return strings.Join(out, " ")
}

func keysOf(us []*ledger.UpdateHeld) string {
	var out []string
	for _, u := range us {
		out = append(out, u.Key().String())
	}
	return strings.Join(out, " ")
}

func describe(b ledger.Body) string {
	switch b := b.(type) {
	case *ledger.PeerJoined:
		return "joined"
	case *ledger.ForgetAcknowledged:
		return "acknowledged " + names([]ledger.LogID{b.Proposal.Log})
	case *ledger.UpdateHeld:
		return "held " + b.Key().String()
	case *ledger.UpdateLost:
		return fmt.Sprintf("lost %v in %d", b.Key(), b.Round)
	case *ledger.RoundSealed:
		return fmt.Sprintf("sealed %d", b.Round)
	case *ledger.RoundsSkipped:
		return fmt.Sprintf("skipped %d to %d", b.From, b.To)
	case *ledger.RoundComputed:
		return fmt.Sprintf("computed %d", b.Round)
	}
	return fmt.Sprintf("%T", b)
}
