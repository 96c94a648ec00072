package upload

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/fedmesh/fedmesh/mesh/api"
)

// Work is what is done with an upload.
type Work interface {
	// Take reads the body to its end and keeps it. Before its first Read it has found out whatever can be refused without a
	// byte. The body fails when the upload is ended, and only then. ctx ends with the upload.
	Take(ctx context.Context, body io.Reader) error
	// Finish returns the receipt of what Take kept. It is called after Take, in no more than one goroutine at a time, and again for another
	// try when it failed with a problem that may pass.
	Finish(ctx context.Context) (api.Receipt, error)
}

// Owned is a Work that knows whose update it is.
type Owned interface {
	// Owner returns the session, by name or key, and the combiner.
	Owner() (session, combiner string)
}

// Options of a Set. Zero fields take the defaults.
type Options struct {
	Most   int           // uploads that are not whole, at a time; 256
	First  time.Duration // in which the first byte must come; 1 m
	Idle   time.Duration // in which another must; 10 m
	Age    time.Duration // in which all must; 24 h
	Keep   time.Duration // how long results are remembered; 10 m
	Finish time.Duration // how long a try of Finish may take; 2 m
}

const (
	maxKept = 1024 // results
	quiet   = 50 * time.Millisecond
	hasty   = time.Second
)

func (o Options) withDefaults() Options {
	o.Most = cmp.Or(o.Most, 256)
	o.First = cmp.Or(o.First, time.Minute)
	o.Idle = cmp.Or(o.Idle, 10*time.Minute)
	o.Age = cmp.Or(o.Age, 24*time.Hour)
	o.Keep = cmp.Or(o.Keep, 10*time.Minute)
	o.Finish = cmp.Or(o.Finish, 2*time.Minute)
	return o
}

// Set is the uploads of one peer. It implements api.Uploads.
type Set struct {
	begin func(name string, req api.PushRequest) Work
	opts  Options
	wg    sync.WaitGroup

	mu     sync.Mutex
	all    map[string]*upload
	closed bool
}

// ErrFull is wrapped by the refusal of an upload while there are too many.
var ErrFull = errors.New("too many uploads are under way")

// New makes a set whose uploads are begun with the given work. The caller must Close it.
func New(begin func(name string, req api.PushRequest) Work, o Options) *Set {
	return &Set{begin: begin, opts: o.withDefaults(), all: map[string]*upload{}}
}

// CheckName reports why s is no name of an upload.
func CheckName(s string) error {
	if b, err := hex.DecodeString(s); err != nil || len(b) != 16 || hex.EncodeToString(b) != s {
		return errors.New("an upload's name is 32 hex digits")
	}
	return nil
}

// Create implements api.Uploads. The upload is finished by itself, whether or not the client waits for it.
func (s *Set) Create(ctx context.Context, req api.PushRequest, metadata string) (api.Upload, error) {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	name := hex.EncodeToString(b[:])
	return s.start(ctx, &upload{name: name, length: req.Length, meta: metadata, work: s.begin(name, req), eager: true})
}

// Join begins an upload that another peer passes on under its name. It is finished only when a client asks for it here.
func (s *Set) Join(ctx context.Context, name string, length int64, work Work) (api.Upload, error) {
	return s.start(ctx, &upload{name: name, length: length, work: work})
}

// start begins an upload and returns when its work waits for the first byte.
func (s *Set) start(ctx context.Context, u *upload) (api.Upload, error) {
	u.set, u.born, u.moved, u.changed = s, time.Now(), time.Now(), make(chan struct{})
	u.ctx, u.cancel = context.WithCancel(context.Background())
	if err := s.add(u); err != nil {
		u.cancel()
		return api.Upload{}, err
	}
	err := u.begun(ctx)
	if err != nil {
		u.stop(errEnded)
		s.remove(u)
		return api.Upload{}, err
	}
	return u.status(), nil
}

func (s *Set) add(u *upload) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.purge()
	many := 0
	for _, v := range s.all {
		if v.stageNow() == taking {
			many++
		}
	}
	switch {
	case s.closed:
		return errClosing
	case many >= s.opts.Most:
		return fmt.Errorf("upload: %w: %w", ErrFull, api.Unavailable(fmt.Sprintf("%d uploads are under way here already", many), 5*time.Second))
	case s.all[u.name] != nil:
		return fmt.Errorf("upload: %w", api.UploadConflict("there is an upload of this name", 0))
	}
	s.all[u.name] = u
	s.wg.Go(u.run)
	return nil
}

// Kept notes that the bytes of an upload have come here some other way; work is only to be finished. An upload of this name that waits for more is ended.
func (s *Set) Kept(name string, length int64, work Work) {
	u := &upload{
		set: s, name: name, length: length, work: work, born: time.Now(), moved: time.Now(), changed: make(chan struct{}),
		offset: length, stage: kept, since: time.Now(),
	}
	u.ctx, u.cancel = context.WithCancel(context.Background())
	s.mu.Lock()
	defer s.mu.Unlock()
	s.purge()
	old := s.all[name]
	if s.closed || old != nil && old.stageNow() == kept {
		u.cancel()
		return
	}
	if old != nil {
		old.stop(errEnded)
	}
	s.all[name] = u
}

// Upload implements api.Uploads.
func (s *Set) Upload(ctx context.Context, name string) (api.Upload, error) {
	u, err := s.find(name)
	if err != nil {
		return api.Upload{}, err
	}
	u.want()
	u.settle(ctx)
	if err := u.outcome(ctx); err != nil {
		return api.Upload{}, err
	}
	return u.status(), nil
}

// Write implements api.Uploads.
func (s *Set) Write(ctx context.Context, name string, offset int64, body api.UploadBody, length int64) (api.Upload, error) {
	u, err := s.find(name)
	if err != nil {
		return api.Upload{}, err
	}
	u.want()
	if err := u.feedFrom(ctx, offset, body, length); err != nil {
		return api.Upload{}, err
	}
	if err := u.outcome(ctx); err != nil {
		return api.Upload{}, err
	}
	return u.status(), nil
}

// Pass is Write for the body that another peer passes on, from the first byte: it returns, with whole set, once the body is kept, and leaves it
// unfinished.
func (s *Set) Pass(ctx context.Context, name string, body api.UploadBody) (whole bool, err error) {
	u, err := s.find(name)
	if err != nil {
		return false, err
	}
	if err := u.feedFrom(ctx, 0, body, -1); err != nil {
		return false, err
	}
	return u.taken(ctx)
}

// Receipt implements api.Uploads.
func (s *Set) Receipt(ctx context.Context, name string) (api.Receipt, error) {
	u, err := s.find(name)
	if err != nil {
		return api.Receipt{}, err
	}
	if err := u.outcome(ctx); err != nil {
		return api.Receipt{}, err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.receipt == nil {
		return api.Receipt{}, api.UploadIncomplete(u.now())
	}
	return *u.receipt, nil
}

// End implements api.Uploads.
func (s *Set) End(name string) error {
	u, err := s.find(name)
	if err != nil {
		return err
	}
	u.stop(errEnded)
	s.remove(u)
	return nil
}

// Owner implements api.UploadOwner. The uploads of a Work that is not Owned are nobody's.
func (s *Set) Owner(name string) (session, combiner string, ok bool) {
	u, err := s.find(name)
	if err != nil {
		return "", "", false
	}
	if w, knows := u.work.(Owned); knows {
		session, combiner = w.Owner()
	}
	return session, combiner, true
}

// Drop ends an upload of another peer's that is not whole, unless a client has come for it.
func (s *Set) Drop(name string) {
	if u, err := s.find(name); err == nil && !u.isWanted() && u.stop(errEnded) {
		s.remove(u)
	}
}

// Close ends all uploads and waits for their work.
func (s *Set) Close() {
	s.mu.Lock()
	s.closed = true
	all := s.all
	s.all = map[string]*upload{}
	s.mu.Unlock()
	for _, u := range all {
		u.stop(errClosing)
		u.cancel()
	}
	s.wg.Wait()
}

func (s *Set) find(name string) (*upload, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.all[name]
	switch {
	case s.closed:
		return nil, errClosing
	case u == nil:
		return nil, api.UnknownUpload(name)
	}
	return u, nil
}

func (s *Set) remove(u *upload) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all[u.name] == u {
		delete(s.all, u.name)
	}
}

// purge forgets old results. It is called with mu held.
func (s *Set) purge() {
	type result struct {
		name  string
		since time.Time
	}
	var results []result
	for name, u := range s.all {
		switch since, done := u.done(); {
		case !done:
		case time.Since(since) > s.opts.Keep:
			delete(s.all, name)
		default:
			results = append(results, result{name, since})
		}
	}
	if len(results) <= maxKept {
		return
	}
	slices.SortFunc(results, func(a, b result) int { return a.since.Compare(b.since) })
	for _, r := range results[:len(results)-maxKept] {
		delete(s.all, r.name)
	}
}
