package main

// These tests are inside the package because a command cannot be imported. They run
// whole command lines with buffers for streams against a server over a fake peer.

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/model"
)

// A shell runs command lines.
type shell struct {
	env      map[string]string
	stdin    string
	terminal bool
	patient  bool // completions may take their time
}

type result struct {
	code     int
	out, err string
}

func (s shell) run(t *testing.T, args ...string) result {
	t.Helper()
	return s.runContext(t.Context(), args...)
}

func (s shell) runContext(ctx context.Context, args ...string) result {
	var out, err bytes.Buffer
	a := &app{
		in: strings.NewReader(s.stdin), out: &out, err: &err, terminal: s.terminal,
		lookup: func(k string) (string, bool) { v, ok := s.env[k]; return v, ok },
	}
	if s.patient {
		a.completeWithin = time.Minute
	}
	code := a.run(ctx, args)
	return result{code, out.String(), err.String()}
}

// ok fails the test unless the command succeeded in silence.
func (s shell) ok(t *testing.T, args ...string) string {
	t.Helper()
	r := s.run(t, args...)
	if r.code != exitOK || r.err != "" {
		t.Fatalf("fedmesh %s: exit code %d, standard error %q", strings.Join(args, " "), r.code, r.err)
	}
	return r.out
}

// fromJSON decodes what a command printed.
func fromJSON[T any](t *testing.T, out string) T {
	t.Helper()
	var v T
	d := json.NewDecoder(strings.NewReader(out))
	if err := d.Decode(&v); err != nil {
		t.Fatalf("not JSON: %v in %q", err, out)
	}
	if d.More() {
		t.Fatalf("more than one JSON value in %q", out)
	}
	return v
}

// f32 is a canonical model with one float32 tensor "w".
func f32(t *testing.T, values ...float32) []byte {
	t.Helper()
	b := make([]byte, 0, 4*len(values))
	for _, v := range values {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	return canonical(t, b, model.Tensor{Name: "w", DType: model.F32, Shape: []int64{int64(len(values))}})
}

// canonical is a canonical model of the given tensors and data.
func canonical(t *testing.T, data []byte, ts ...model.Tensor) []byte {
	t.Helper()
	l, err := model.NewLayout(ts)
	if err != nil {
		t.Fatal(err)
	}
	if int64(len(data)) != l.DataSize() {
		t.Fatalf("%d bytes of data for a layout of %d", len(data), l.DataSize())
	}
	return append(slices.Clone(l.Header()), data...)
}

// A peer is a fake: a mesh of one that keeps one session in memory and does not compute.
type peer struct {
	mu      sync.Mutex
	info    *api.SessionInfo
	layout  *model.Layout
	models  [][]byte // by round
	pushes  []push
	mesh    api.MeshInfo
	rounds  []api.RoundInfo
	failing error // the answer to everything

	failPush error // the answer to pushes

	events chan api.Event // for whoever subscribes; nil: streams end at once

	asked  func() // before the mesh is told; nil: nothing happens
	left   bool
	forget func(peers []string) (api.Forgetting, error)
}

type push struct {
	api.PushRequest
	body []byte
}

// serve starts a server over a peer with a session "s" whose seed is a model of three
// zeros, and gives a shell that talks to it.
func serve(t *testing.T) (*peer, shell) {
	t.Helper()
	p := &peer{
		info: &api.SessionInfo{
			Name: "s", Key: strings.Repeat("ab", 32), Config: api.DefaultSessionConfig(),
			State: api.SessionOpen, Round: 1, Members: []string{"a"},
		},
		mesh: api.MeshInfo{Self: "a", Mesh: "test", Agreed: true, Peers: []api.PeerInfo{{Name: "a", State: api.PeerAlive, API: "127.0.0.1:1"}}},
	}
	var err error
	p.layout, err = model.NewLayout([]model.Tensor{{Name: "w", DType: model.F32, Shape: []int64{3}}})
	if err != nil {
		t.Fatal(err)
	}
	p.setModel(0, f32(t, 0, 0, 0))
	p.info.Seed = p.info.Model
	s := api.NewServer(p, api.ServerOptions{})
	hs := httptest.NewServer(s)
	t.Cleanup(func() {
		s.Close()
		hs.Close()
	})
	return p, shell{env: map[string]string{"FEDMESH_PEERS": hs.URL, "FEDMESH_TRIES": "1"}}
}

func (p *peer) setModel(round uint64, b []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.models = append(p.models[:round], b)
	p.info.Model, p.info.ModelRound, p.info.Round = model.Sum(b).String(), round, round+1
}

func (p *peer) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failing = err
}

// lookup finds the session. The caller holds the lock.
func (p *peer) lookup(ref string) (*api.SessionInfo, error) {
	if p.failing != nil {
		return nil, p.failing
	}
	if p.info == nil || ref != p.info.Name && ref != p.info.Key {
		return nil, api.UnknownSession(ref)
	}
	return p.info, nil
}

func (p *peer) OpenSession(_ context.Context, name string, cfg api.SessionConfig, seed io.Reader) (api.SessionInfo, bool, error) {
	b, err := io.ReadAll(seed)
	if err != nil {
		return api.SessionInfo{}, false, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	d := model.Sum(b).String()
	if p.info != nil && p.info.Name == name {
		if p.info.Seed != d {
			return api.SessionInfo{}, false, api.SessionConflict(name, "another seed")
		}
		return *p.info, false, nil
	}
	p.info = &api.SessionInfo{Name: name, Key: strings.Repeat("cd", 32), Config: cfg, Seed: d, Model: d, State: api.SessionOpen, Round: 1, Members: []string{"a"}}
	p.models = [][]byte{b}
	return *p.info, true, nil
}

func (p *peer) CloseSession(_ context.Context, session string) (api.SessionInfo, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	info, err := p.lookup(session)
	if err != nil {
		return api.SessionInfo{}, err
	}
	info.State = api.SessionClosing
	return *info, nil
}

func (p *peer) Sessions() []api.SessionInfo {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.info == nil {
		return nil
	}
	return []api.SessionInfo{*p.info}
}

func (p *peer) Session(ref string) (api.SessionInfo, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	info, err := p.lookup(ref)
	if err != nil {
		return api.SessionInfo{}, err
	}
	return *info, nil
}

func (p *peer) Push(_ context.Context, req api.PushRequest) (api.Receipt, error) {
	b, err := io.ReadAll(req.Body)
	if err != nil {
		return api.Receipt{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, err := p.lookup(req.Session); err != nil {
		return api.Receipt{}, err
	}
	if p.failPush != nil {
		return api.Receipt{}, p.failPush
	}
	r := api.Receipt{Session: req.Session, Combiner: req.Combiner, ID: req.ID, Digest: model.Sum(b).String(), Base: req.Base, Copies: []string{"a", "b"}}
	for _, old := range p.pushes {
		if old.Combiner == req.Combiner && old.ID == req.ID {
			if !bytes.Equal(old.body, b) {
				return r, api.UpdateConflict(req.Combiner, req.ID, model.Sum(old.body).String(), "other bytes")
			}
			r.Duplicate = true
			return r, nil
		}
	}
	req.Body = nil
	p.pushes = append(p.pushes, push{req, b})
	return r, nil
}

// memory is a blob in memory.
type memory struct{ *bytes.Reader }

func (memory) Close() error { return nil }

func (p *peer) Model(_ context.Context, session string, ref api.ModelRef) (api.Model, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, err := p.lookup(session); err != nil {
		return api.Model{}, err
	}
	for i, b := range slices.Backward(p.models) {
		d := model.Sum(b)
		if ref == api.Latest() || ref == api.AtRound(uint64(i)) || ref == api.OfDigest(d) {
			return api.Model{Digest: d, Round: uint64(i), Layout: p.layout, Blob: memory{bytes.NewReader(b)}, Size: int64(len(b))}, nil
		}
	}
	return api.Model{}, api.UnknownModel(session, ref)
}

func (p *peer) WaitModel(ctx context.Context, session, after string) error {
	for {
		info, err := p.Session(session)
		if err != nil {
			return err
		}
		if after != info.Model && after != strconv.FormatUint(info.ModelRound, 10) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
}

func (p *peer) Rounds(session string, _ uint64, _ int) ([]api.RoundInfo, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, err := p.lookup(session)
	return p.rounds, err
}

func (p *peer) Round(session string, n uint64) (api.RoundInfo, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, err := p.lookup(session); err != nil {
		return api.RoundInfo{}, err
	}
	for _, r := range p.rounds {
		if r.Round == n {
			return r, nil
		}
	}
	return api.RoundInfo{}, api.UnknownRound(session, n)
}

func (p *peer) Mesh() api.MeshInfo {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.asked != nil {
		p.asked()
	}
	return p.mesh
}

func (p *peer) Subscribe(ctx context.Context) <-chan api.Event {
	c := make(chan api.Event)
	if p.events == nil {
		close(c)
		return c
	}
	go func() {
		defer close(c)
		for {
			select {
			case e, ok := <-p.events:
				if !ok {
					return
				}
				select {
				case c <- e:
				case <-ctx.Done():
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return c
}

func (p *peer) Ready() error { return nil }

func (p *peer) Leave(context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failing != nil {
		return p.failing
	}
	p.left = true
	return nil
}

func (p *peer) Forget(_ context.Context, peers []string) (api.Forgetting, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failing != nil {
		return api.Forgetting{}, p.failing
	}
	return p.forget(peers)
}

var errInternal = errors.New("internal")

// checkError asserts an exit code and that the error says what it should, and ends with a next step.
func checkError(t *testing.T, r result, code int, parts ...string) {
	t.Helper()
	if r.code != code {
		t.Errorf("exit code %d, want %d: %s", r.code, code, r.err)
	}
	if r.out != "" {
		t.Errorf("a failure printed on standard output: %q", r.out)
	}
	lines := strings.Split(strings.TrimSpace(r.err), "\n")
	if !strings.HasPrefix(lines[0], "fedmesh: ") || !strings.HasPrefix(lines[len(lines)-1], "  next: ") {
		t.Errorf("an error must start with the command's name and end with the next step: %q", r.err)
	}
	for _, p := range parts {
		if !strings.Contains(r.err, p) {
			t.Errorf("the error does not mention %q: %q", p, r.err)
		}
	}
}

// checkWidth asserts that text fits a terminal.
func checkWidth(t *testing.T, text string) {
	t.Helper()
	for line := range strings.Lines(text) {
		if n := columns(strings.TrimRight(line, "\n")); n > width {
			t.Errorf("%d columns: %s", n, line)
		}
	}
}

func digestOf(b []byte) string { return fmt.Sprint(model.Sum(b)) }
