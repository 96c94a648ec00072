package ledger_test

import (
	"fmt"
	"slices"
	"strings"

	"github.com/fedmesh/fedmesh/mesh/ledger"
	"github.com/fedmesh/fedmesh/model"
)

func key(w string) ledger.Key {
	combiner, id, _ := strings.Cut(w, "/")
	return ledger.Key{Combiner: combiner, ID: id}
}

// act does one step of a peer and returns what it shows.
func (s *script) act(a *actor, verb string, args []string, opts map[string]string) string {
	if verb != "joins" && verb != "hears" && verb != "sees" && a.l.Session(s.key) == nil {
		s.fail("no session yet")
	}
	arg := func(i int) string {
		if i >= len(args) {
			return ""
		}
		return args[i]
	}
	switch verb {
	case "mayhold":
		return fmt.Sprint(a.r.MayHold(a.l.Session(s.key), s.update(a, key(arg(0)), opts)))
	case "mayleave":
		return fmt.Sprint(a.r.MayLeave())
	case "holds":
		s.hold(a, key(arg(0)), opts)
	case "drops":
		s.say(a, &ledger.UpdateDropped{Session: s.key, Combiner: key(arg(0)).Combiner, ID: key(arg(0)).ID})
	case "loses":
		s.say(a, &ledger.UpdateLost{Session: s.key, Combiner: key(arg(0)).Combiner, ID: key(arg(0)).ID, Round: s.number(arg(1)), Inputs: inputs(a.l.Session(s.key), s.number(arg(1)))})
	case "seals":
		s.say(a, &ledger.RoundSealed{Session: s.key, Round: s.number(arg(0)), Cut: a.l.Vector().Clone()})
	case "skips":
		s.say(a, skip(a.l.Session(s.key), s.number(arg(0)), s.number(arg(1)), a.l.Vector().Clone()))
	case "computes":
		r := a.l.Session(s.key).Round(s.number(arg(0)))
		res := s.resultOf(r, ledger.Result{})
		a.r.Computed(r.Inputs, res, true)
		s.say(a, &ledger.RoundComputed{Session: s.key, Round: r.Number, Inputs: r.Inputs, Result: res, Seen: a.l.Vector().Clone()})
	case "closes":
		s.say(a, &ledger.SessionClosed{Session: s.key})
	case "leaves":
		s.say(a, &ledger.PeerLeft{})
	case "joins":
		s.say(a, &ledger.PeerJoined{Name: string(rune(a.log[0])), Mesh: "m"})
	case "forgets":
		s.say(a, &ledger.PeerForgotten{Targets: s.logs(args)})
	case "agrees":
		s.agree(a, s.peers[arg(0)])
	case "hears":
		s.hear(a, s.peers[arg(0)], s.number(arg(1)))
	case "sees":
		a.r.SetAlive(s.logs(args))
	case "wakes", "stalls":
		a.r.SetSynced(verb == "wakes")
	case "tick":
		return s.tick(a)
	case "works":
		s.compute(a, arg(0) != "volatile")
	case "syncs":
		res := a.made
		if len(args) > 0 && args[0] != "model" && args[0] != "state" {
			res, _ = a.r.ResultOf(a.l.Session(s.key), s.number(args[0]))
		}
		for _, d := range parts(res, args) {
			a.r.HoldModel(d, true)
		}
	case "deletes":
		res, _ := a.r.ResultOf(a.l.Session(s.key), s.number(arg(0)))
		for _, d := range parts(res, args) {
			a.r.DropModel(d)
		}
	case "takes":
		for _, d := range parts(a.work.Takes[0].Result, args) {
			a.r.HoldModel(d, true)
		}
	case "misses":
		var keys []ledger.Key
		for _, w := range args {
			keys = append(keys, key(w))
		}
		a.r.Missing(s.key, a.work.Round.Inputs, keys, s.now)
	default:
		return s.show(a, verb, s.number(strings.TrimLeft(arg(0), "abcdefghijklmnopqrstuvwxyz/")), key(arg(0)))
	}
	return ""
}

func (s *script) hold(a *actor, k ledger.Key, opts map[string]string) { s.say(a, s.update(a, k, opts)) }

func (s *script) update(a *actor, k ledger.Key, opts map[string]string) *ledger.UpdateHeld {
	session := a.l.Session(s.key)
	round := s.number(opts["base"])
	base, ok := session.Model(round)
	if !ok {
		s.fail("nobody has computed round %d", round)
	}
	u := &ledger.UpdateHeld{
		Session: s.key, Combiner: k.Combiner, ID: k.ID, Weight: max(1, s.number(opts["w"])), Base: base, BaseRound: round,
		Model: model.Sum([]byte(k.String() + opts["model"])),
	}
	if opts["known"] != "" {
		u.BaseRound = s.number(opts["known"])
	}
	return u
}

func (s *script) agree(a, b *actor) {
	for _, e := range slices.Backward(a.l.Range(b.log, 0, a.l.Vector()[b.log])) {
		p, ok := e.Body.(*ledger.PeerForgotten)
		if !ok {
			continue
		}
		upto := ledger.Vector{}
		for _, target := range p.Targets {
			upto[target] = a.l.Vector()[target]
		}
		s.say(a, &ledger.ForgetAcknowledged{Proposal: e.Ref(), Upto: upto})
		return
	}
	s.fail("no proposal")
}

func (s *script) hear(a, b *actor, only uint64) {
	if only == 0 {
		merge(s.t, a.l, b.l)
		return
	}
	for _, e := range b.l.Range(b.log, 0, only) {
		if _, err := a.l.Add(e); err != nil {
			s.fail("%v", err)
		}
	}
}

func (s *script) tick(a *actor) string {
	ready := a.r.Tick(s.now)
	a.work = nil
	for _, w := range ready.Work {
		if w.Session == s.key {
			a.work = &w
		}
	}
	var said []string
	for _, e := range ready.Entries {
		said = append(said, describe(e.Body))
	}
	return strings.Join(said, ", ")
}

func (s *script) compute(a *actor, durable bool) {
	if a.work == nil {
		s.fail("there is nothing to do")
	}
	a.made = s.resultOf(a.work.Round, a.work.Previous)
	a.r.Computed(a.work.Round.Inputs, a.made, durable)
}

func skip(s *ledger.Session, from, to uint64, seen ledger.Vector) *ledger.RoundsSkipped {
	b := &ledger.RoundsSkipped{Session: s.Key(), From: from, To: to, Seen: seen}
	for n := from; n <= to; n++ {
		b.Inputs = append(b.Inputs, inputs(s, n))
	}
	return b
}

func inputs(s *ledger.Session, n uint64) model.Digest {
	if n >= s.Open() {
		return model.Digest{}
	}
	return s.Round(n).Inputs
}

// resultOf stands for what a round gives.
func (s *script) resultOf(r ledger.Round, previous ledger.Result) ledger.Result {
	if len(r.Content) == 0 {
		return previous
	}
	res := ledger.Result{Model: model.Sum(append([]byte("model"), r.Inputs[:]...))}
	if s.stateful {
		res.State = model.Sum(append([]byte("state"), r.Inputs[:]...))
	}
	return res
}

// parts returns the digests of a result, or only that which the last of the args names.
func parts(res ledger.Result, args []string) []model.Digest {
	last := ""
	if len(args) > 0 {
		last = args[len(args)-1]
	}
	switch {
	case last == "model" || res.State.IsZero():
		return []model.Digest{res.Model}
	case last == "state":
		return []model.Digest{res.State}
	}
	return []model.Digest{res.Model, res.State}
}

// show returns what a peer's ledger says.
func (s *script) show(a *actor, what string, n uint64, k ledger.Key) string {
	session := a.l.Session(s.key)
	if (what == "round" || what == "weight") && n >= session.Open() {
		return "open"
	}
	switch what {
	case "open":
		return fmt.Sprint(session.Open())
	case "final":
		return fmt.Sprint(session.Final())
	case "round":
		return keysOf(session.Round(n).Content)
	case "weight":
		return fmt.Sprint(session.Round(n).Weight)
	case "members":
		return names(session.Members(n))
	case "owes":
		return names(session.WaitingFor(n))
	case "holders":
		holders, _ := session.Holders(k)
		if known := session.Known(k); len(session.Versions(k)) == 1 && names(session.HoldersOf(known)) != names(holders) {
			s.fail("holders %s, of this update %s", names(holders), names(session.HoldersOf(known)))
		}
		return names(holders)
	case "conflicts":
		var out []string
		for _, c := range session.Conflicts() {
			out = append(out, c.Key.String())
		}
		for _, key := range session.Keys() {
			if session.Conflicted(key) != slices.Contains(out, key.String()) {
				s.fail("%s is conflicted: %t, and those that are: %v", key, session.Conflicted(key), out)
			}
		}
		return strings.Join(out, " ")
	case "waiting":
		var out []string
		updates, lost := session.Waiting()
		for i, u := range updates {
			w := u.Key().String()
			if lost[i] {
				w += "(lost)"
			}
			out = append(out, w)
		}
		return strings.Join(out, " ")
	case "has":
		_, ok := a.r.ResultOf(session, n)
		return fmt.Sprint(ok)
	case "accepts":
		return fmt.Sprint(a.r.Accepting(session))
	case "outside":
		return fmt.Sprint(a.l.Outside())
	case "last":
		_, last := session.Closing()
		return fmt.Sprint(last)
	}
	s.fail("unknown step %q", what)
	return ""
}
