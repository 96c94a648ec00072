package api_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/model"
)

// fake is a backend in memory: one peer, whose sessions hold models by round. It is no mesh; what it is asked is what the tests look at.
type fake struct {
	mu       sync.Mutex
	sessions map[string]*fakeSession
	pushes   []api.PushRequest // in order, without bodies
	bodies   [][]byte
	ready    error
	left     bool
	forgets  [][]string    // requests to forget, in order
	changed  chan struct{} // closed and replaced when a model changes
	subs     map[chan api.Event]bool

	onPush  func(ctx context.Context, req api.PushRequest) (api.Receipt, error)
	onModel func(m api.Model) (api.Model, error)
	onMesh  func() api.MeshInfo

	onForget func(peers []string) (api.Forgetting, error)
}

type fakeSession struct {
	info   api.SessionInfo
	models []fakeModel
	held   map[string]model.Digest
}

type fakeModel struct {
	digest model.Digest
	layout *model.Layout
	file   []byte
}

func newFake() *fake {
	return &fake{sessions: map[string]*fakeSession{}, changed: make(chan struct{}), subs: map[chan api.Event]bool{}}
}

// someModel is a canonical file of n float32 with the given value.
func someModel(t testing.TB, n int, v float32) fakeModel {
	t.Helper()
	l, err := model.NewLayout([]model.Tensor{{Name: "w", DType: model.F32, Shape: []int64{int64(n)}}})
	if err != nil {
		t.Fatal(err)
	}
	file := slices.Clone(l.Header())
	for range n {
		file = binary.LittleEndian.AppendUint32(file, math.Float32bits(v))
	}
	return fakeModel{digest: model.Sum(file), layout: l, file: file}
}

// with adds a session whose model of round 0 is m.
func (f *fake) with(name string, m fakeModel) *fake {
	f.sessions[name] = &fakeSession{
		info: api.SessionInfo{
			Name: name, Key: strings.Repeat("ab", 32), Config: api.DefaultSessionConfig(), Seed: m.digest.String(),
			State: api.SessionOpen, Round: 1, Model: m.digest.String(), Members: []string{"a"},
		},
		models: []fakeModel{m}, held: map[string]model.Digest{},
	}
	return f
}

// publish makes m the model of session s's next round.
func (f *fake) publish(m fakeModel) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.sessions["s"]
	s.models = append(s.models, m)
	s.info.ModelRound = uint64(len(s.models) - 1)
	s.info.Round = s.info.ModelRound + 1
	s.info.Model = m.digest.String()
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *fake) emit(e api.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for ch := range f.subs {
		ch <- e
	}
}

func (f *fake) subscribers() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.subs)
}

func (f *fake) pushed() []api.PushRequest {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.pushes)
}

func (f *fake) find(ref string) (*fakeSession, error) {
	s := f.sessions[ref]
	if s == nil {
		return nil, api.UnknownSession(ref)
	}
	return s, nil
}

func (f *fake) OpenSession(_ context.Context, name string, cfg api.SessionConfig, seed io.Reader) (api.SessionInfo, bool, error) {
	b, err := io.ReadAll(seed)
	if err != nil {
		return api.SessionInfo{}, false, err
	}
	if len(b) < 8 {
		return api.SessionInfo{}, false, api.UnreadableModel(errors.New("too short"))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if s := f.sessions[name]; s != nil {
		if s.info.Seed != model.Sum(b).String() {
			return api.SessionInfo{}, false, api.SessionConflict(name, "the seed differs")
		}
		return s.info, false, nil
	}
	f.with(name, fakeModel{digest: model.Sum(b), file: b})
	f.sessions[name].info.Config = cfg
	return f.sessions[name].info, true, nil
}

func (f *fake) CloseSession(_ context.Context, session string) (api.SessionInfo, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, err := f.find(session)
	if err != nil {
		return api.SessionInfo{}, err
	}
	s.info.State = api.SessionClosed
	return s.info, nil
}

func (f *fake) Sessions() []api.SessionInfo {
	f.mu.Lock()
	defer f.mu.Unlock()
	var l []api.SessionInfo
	for _, s := range f.sessions {
		l = append(l, s.info)
	}
	slices.SortFunc(l, func(a, b api.SessionInfo) int { return strings.Compare(a.Name, b.Name) })
	return l
}

func (f *fake) Session(ref string) (api.SessionInfo, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, err := f.find(ref)
	if err != nil {
		return api.SessionInfo{}, err
	}
	return s.info, nil
}

func (f *fake) Push(ctx context.Context, req api.PushRequest) (api.Receipt, error) {
	f.mu.Lock()
	f.pushes = append(f.pushes, req)
	s, err := f.find(req.Session)
	hook := f.onPush
	f.mu.Unlock()
	if err != nil {
		return api.Receipt{}, err
	}
	if hook != nil {
		return hook(ctx, req)
	}
	b, err := io.ReadAll(req.Body)
	if err != nil {
		return api.Receipt{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.bodies = append(f.bodies, b)
	d := model.Sum(b)
	id := req.ID
	if id == "" {
		id = d.String()
	}
	r := api.Receipt{Session: req.Session, Combiner: req.Combiner, ID: id, Digest: d.String(), Base: req.Base, Copies: []string{"a"}}
	key := req.Combiner + "/" + id
	if held, ok := s.held[key]; ok {
		if held != d {
			return api.Receipt{}, api.UpdateConflict(req.Combiner, id, held.String(), "other bytes")
		}
		r.Duplicate = true
	}
	s.held[key] = d
	return r, nil
}

type fakeBlob struct {
	*bytes.Reader
	close func()
}

func (b fakeBlob) Close() error {
	b.close()
	return nil
}

// onClose is b, telling when it is closed.
func onClose(b api.Blob, fn func()) api.Blob {
	if f, ok := b.(fakeBlob); ok {
		f.close = fn
		return f
	}
	return b
}

func (f *fake) Model(_ context.Context, session string, ref api.ModelRef) (api.Model, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, err := f.find(session)
	if err != nil {
		return api.Model{}, err
	}
	for i, m := range slices.Backward(s.models) {
		if ref.Kind == api.RefLatest || ref.Kind == api.RefRound && uint64(i) == ref.Round || ref.Kind == api.RefDigest && m.digest == ref.Digest {
			out := api.Model{
				Digest: m.digest, Round: uint64(i), Layout: m.layout, Size: int64(len(m.file)),
				Blob: fakeBlob{bytes.NewReader(m.file), func() {}},
			}
			if f.onModel != nil {
				return f.onModel(out)
			}
			return out, nil
		}
	}
	return api.Model{}, api.UnknownModel(session, ref)
}

func (f *fake) WaitModel(ctx context.Context, session, after string) error {
	ref, err := api.ParseModelRef(after)
	if err != nil {
		return err
	}
	for {
		f.mu.Lock()
		s, err := f.find(session)
		if err != nil {
			f.mu.Unlock()
			return err
		}
		newer := ref.Kind == api.RefDigest && s.info.Model != after || ref.Kind == api.RefRound && s.info.ModelRound > ref.Round
		changed := f.changed
		f.mu.Unlock()
		if newer {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

func (f *fake) Rounds(session string, from uint64, limit int) ([]api.RoundInfo, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, err := f.find(session)
	if err != nil {
		return nil, err
	}
	var l []api.RoundInfo
	for n := max(from, 1); n <= s.info.Round && len(l) < limit; n++ {
		l = append(l, api.RoundInfo{Round: n, State: api.RoundOpen, Updates: []api.UpdateInfo{{Combiner: "c", ID: "1", Weight: 3}}})
	}
	return l, nil
}

func (f *fake) Round(session string, n uint64) (api.RoundInfo, error) {
	l, err := f.Rounds(session, n, 1)
	if err != nil {
		return api.RoundInfo{}, err
	}
	if len(l) == 0 || l[0].Round != n {
		return api.RoundInfo{}, api.UnknownRound(session, n)
	}
	return l[0], nil
}

func (f *fake) Mesh() api.MeshInfo {
	if f.onMesh != nil {
		return f.onMesh()
	}
	return api.MeshInfo{Self: "a", Mesh: "test", Agreed: true, Peers: []api.PeerInfo{{
		Name: "a", Log: "00", State: api.PeerAlive, API: "127.0.0.1:1",
		Rounds: map[string]api.RoundModel{"s": {Round: 7, Model: "abcd"}},
	}}}
}

func (f *fake) Subscribe(ctx context.Context) <-chan api.Event {
	ch := make(chan api.Event)
	out := make(chan api.Event)
	f.mu.Lock()
	f.subs[ch] = true
	f.mu.Unlock()
	go func() {
		defer close(out)
		for {
			select {
			case <-ctx.Done():
			case e := <-ch:
				select {
				case out <- e:
					continue
				case <-ctx.Done():
				}
			}
			break
		}
		// Whoever emits holds the lock while it sends.
		for {
			if f.mu.TryLock() {
				delete(f.subs, ch)
				f.mu.Unlock()
				return
			}
			select {
			case <-ch:
			default:
			}
		}
	}()
	return out
}

func (f *fake) Ready() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ready
}

func (f *fake) Leave(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.left {
		return api.LastMember()
	}
	f.left = true
	return nil
}

func (f *fake) Forget(_ context.Context, peers []string) (api.Forgetting, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.forgets = append(f.forgets, peers)
	if f.onForget != nil {
		return f.onForget(peers)
	}
	return api.Forgetting{Peers: peers, Logs: peers, Done: true}, nil
}
