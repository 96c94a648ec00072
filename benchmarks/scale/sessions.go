package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/fedmesh/fedmesh/benchmarks/command"
	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/meshtest/process"
)

// Of the sessions, and of each of them.
const (
	sessionPeers     = 3
	sessionCombiners = 4
	hugeTimes        = 5 // as long do the huge model's combiners train
	warmUp           = 2 // rounds before any is measured
)

// Sessions is what was measured with many sessions.
type Sessions struct {
	Sessions int     `json:"sessions"`
	Params   int64   `json:"params"`
	Huge     int64   `json:"huge_params"`
	Rounds   int     `json:"rounds"`  // of the measured session, alone and among the others
	Opening  float64 `json:"opening"` // seconds until the others were open

	Alone  Part `json:"alone"`  // the measured session by itself
	Among  Part `json:"among"`  // and among the others
	Others Part `json:"others"` // the other small sessions

	HugeRounds    int            `json:"huge_rounds"`
	HugeRound     *float64       `json:"huge_round"` // seconds without training, median; null when none was finished
	ClosedRounds  int            `json:"closed_rounds"`
	BadPushes     map[string]int `json:"bad_pushes"`     // refused as they should be, by kind
	BadAnswers    []string       `json:"bad_answers"`    // that were not
	BadUnanswered int            `json:"bad_unanswered"` // tries that got no answer, or one that means later
	ServerErrors  int            `json:"server_errors"`  // answers with status 500
	Refusals      int            `json:"refusals"`       // pushes answered with 503 or 429
	Fallen        []string       `json:"fallen"`         // peers whose processes ended
	Verdict       Verdict        `json:"verdict"`        // of all sessions
	TroubleFailed int            `json:"trouble_failed"` // combiners of the sessions with trouble that could not go on
}

// Part is some combiners' laps in one part of the run.
type Part struct {
	Laps     []Lap   `json:"laps"`
	Seconds  float64 `json:"seconds"` // that the part took
	PeersCPU float64 `json:"peers_cpu"`
	OwnCPU   float64 `json:"own_cpu"` // combiners and what watches them
}

// many is the claim under way.
type many struct {
	config config
	sys    *system
	result *Sessions

	measured             *session
	others               []*session // small ones
	huge, hostile, close *session
	vandal               *vandal
}

// measureSessions runs one session alone, then among others.
func measureSessions(ctx context.Context, c config, binary string, show command.Show) (r *Sessions, err error) {
	sys, err := newSystem(ctx, c, process.Options{Binary: binary, N: sessionPeers}, "sessions")
	if err != nil {
		return nil, err
	}
	defer func() { err = sys.end(ctx, err) }()
	if err := sys.meet(ctx, sessionPeers); err != nil {
		return nil, err
	}
	m := &many{config: c, sys: sys, result: &Sessions{Sessions: c.sessions, Params: c.params, Huge: c.hugeParams, Rounds: c.roundsOr(20)}}
	m.make()
	if err := m.open(ctx, m.measured, c.params); err != nil {
		return nil, err
	}
	if err := m.run(ctx, show); err != nil {
		return nil, err
	}
	return m.result, m.judge(ctx, show)
}

// make makes the sessions; the measured one, one of each kind of trouble, and the
// rest are like the measured one.
func (m *many) make() {
	for i := range m.config.sessions {
		s := &session{
			sys: m.sys, name: fmt.Sprintf("s%04d", i), seed: m.config.seed<<16 + uint64(i), combiners: sessionCombiners,
			first: i * sessionCombiners, config: api.DefaultSessionConfig(),
			train: func(int, int) time.Duration { return m.config.train },
		}
		s.config.TargetCombiners, s.config.MinCombiners = sessionCombiners, 1
		switch i {
		case 0:
			m.measured = s
		case 1:
			s.name, m.huge = "huge", s
			s.train = func(int, int) time.Duration { return hugeTimes * m.config.train }
			s.config.RoundTimeout = api.Duration(patience)
		case 2:
			s.name, m.hostile = "hostile", s
		case 3:
			s.name, m.close, s.mayClose = "closed", s, true
		default:
			m.others = append(m.others, s)
		}
	}
}

// all lists the sessions.
func (m *many) all() []*session {
	return append([]*session{m.measured, m.huge, m.hostile, m.close}, m.others...)
}

func (m *many) open(ctx context.Context, s *session, params int64) error {
	updates := sessionCombiners
	if s == m.huge {
		updates = 1 // memory
	}
	if err := s.open(ctx, params, updates); err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	return s.everywhere(ctx, sessionPeers)
}

// run lets the measured session work alone, then all.
func (m *many) run(ctx context.Context, show command.Show) error {
	var g errgroup.Group
	stop := make(chan struct{})
	end := sync.OnceFunc(func() { close(stop) })
	defer func() { end(); _ = g.Wait() }()
	g.Go(func() error { m.measured.run(ctx, stop); return nil })
	await := func(s *session, rounds int, what string) error {
		for s.finished() < rounds {
			if err := s.failed(); err != nil {
				return err
			}
			show("%s: round %d of %d ...", what, s.finished(), rounds)
			if command.Pause(ctx, 50*time.Millisecond); ctx.Err() != nil {
				return ctx.Err()
			}
		}
		return nil
	}
	if err := await(m.measured, warmUp, "alone, warming up"); err != nil {
		return err
	}
	rounds := m.result.Rounds
	from := m.measured.finished()
	alone, err := m.part(func() error { return await(m.measured, from+1+rounds, "alone") })
	if err != nil {
		return err
	}
	m.result.Alone = alone.of(m.measured)

	began := m.sys.now()
	if err := m.openOthers(ctx, show); err != nil {
		return err
	}
	m.result.Opening = m.sys.now() - began
	m.startOthers(ctx, &g, stop)
	for _, s := range append([]*session{m.hostile, m.close}, m.others...) {
		if err := await(s, 1, "others begin, "+s.name); err != nil {
			return err
		}
	}
	from = m.measured.finished()
	among, err := m.part(func() error {
		if err := await(m.measured, from+rounds/2, "among others"); err != nil {
			return err
		}
		if err := m.closeOne(ctx); err != nil {
			return err
		}
		return await(m.measured, from+1+rounds, "among others")
	})
	if err != nil {
		return err
	}
	m.result.Among, m.result.Others = among.of(m.measured), among.of(m.others...)
	if m.result.Refusals, m.result.ServerErrors, err = m.sys.answers(ctx); err != nil {
		return err
	}
	show("waiting for pushes that are under way ...")
	end()
	return g.Wait()
}

// openOthers opens the others, a few at a time.
func (m *many) openOthers(ctx context.Context, show command.Show) error {
	const atOnce = 4
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for i, s := range append(append([]*session{}, m.others...), m.hostile, m.close, m.huge) {
		show("opening %d of %d others ...", i+1, m.config.sessions-1)
		params := m.config.params
		if s == m.huge {
			params = m.config.hugeParams
		}
		g.Go(func() error { return m.open(gctx, s, params) })
	}
	return g.Wait()
}

// startOthers starts the others' combiners, spread over the time that they train.
func (m *many) startOthers(ctx context.Context, g *errgroup.Group, stop chan struct{}) {
	start := func(s *session, i int) {
		g.Go(func() error {
			command.Pause(ctx, m.config.train*time.Duration(i)/time.Duration(m.config.sessions))
			s.run(ctx, stop)
			return nil
		})
	}
	for i, s := range append([]*session{m.huge, m.hostile, m.close}, m.others...) {
		start(s, i+1)
	}
	m.vandal = newVandal(m.hostile)
	g.Go(func() error { return m.vandal.run(ctx, stop) })
}

// closeOne closes one session in the middle of its work.
func (m *many) closeOne(ctx context.Context) error {
	client, err := m.sys.client(m.close.first)
	if err != nil {
		return err
	}
	defer client.Close()
	_, err = client.CloseSession(ctx, m.close.key)
	return err
}

// span is a part of the run, without its laps.
type span struct {
	from, to float64
	Part
}

// part does something and says what it took.
func (m *many) part(do func() error) (p span, err error) {
	before, err := m.sys.cpu()
	if err != nil {
		return p, err
	}
	p.from, p.OwnCPU = m.sys.now(), ownCPU()
	if err := do(); err != nil {
		return p, err
	}
	after, err := m.sys.cpu()
	p.to = m.sys.now()
	p.Seconds, p.PeersCPU, p.OwnCPU = p.to-p.from, after-before, ownCPU()-p.OwnCPU
	return p, err
}

// of takes the laps of sessions in it.
func (p span) of(sessions ...*session) Part {
	out := p.Part
	for _, s := range sessions {
		s.mu.Lock()
		out.Laps = append(out.Laps, between(s.laps, p.from, p.to)...)
		s.mu.Unlock()
	}
	return out
}

// failed says what a session's combiners could not do.
func (s *session) failed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.errs...)
}

// judge judges all sessions.
func (m *many) judge(ctx context.Context, show command.Show) (err error) {
	r := m.result
	r.HugeRounds, r.ClosedRounds = m.huge.finished(), m.close.finished()
	if len(m.huge.laps) > 0 {
		r.HugeRound = new(median(m.huge.laps, Lap.Mesh))
	}
	r.BadPushes, r.BadAnswers, r.BadUnanswered = m.vandal.refused, m.vandal.wrong, m.vandal.none
	r.Fallen = m.sys.fallen()
	all := m.all()
	r.Verdict, err = m.sys.judge(ctx, all, func(done int) { show("checking, %d of %d sessions ...", done, len(all)) })
	return err
}
