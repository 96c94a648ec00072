package api_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fedmesh/fedmesh/mesh/api"
)

// TestPushMovesOn checks that an update goes past the dead, the unwilling and the stalled with one base and one id.
func TestPushMovesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t)
		seed := someModel(t, 4, 1)
		good, slow := newFake().with("s", seed), newFake().with("s", seed)
		m.peer("e", good)
		m.host("b", status(503, "Retry-After", "1"))
		m.host("c", status(500))
		m.peer("d", slow)
		opened := 0
		body := bytes.Repeat([]byte("update"), 200_000)
		source := func() (io.ReadCloser, int64, error) {
			opened++
			return api.Bytes(body)()
		}
		// d takes the update, then the acknowledgement is lost: it stalls.
		accepted := make(chan struct{}, 10)
		slow.onPush = func(ctx context.Context, req api.PushRequest) (api.Receipt, error) {
			if _, err := io.Copy(io.Discard, req.Body); err != nil {
				return api.Receipt{}, err
			}
			accepted <- struct{}{}
			<-ctx.Done()
			return api.Receipt{}, ctx.Err()
		}
		c := m.client(api.ClientOptions{ResponseTimeout: 20 * time.Second}, "a", "b", "c", "d", "e")
		begin := time.Now()
		// In the middle the model moves on at the good peer; the update's base must not.
		go func() {
			<-accepted
			good.publish(someModel(t, 4, 9))
		}()
		r, err := c.Push(t.Context(), "s", api.PushOptions{Combiner: "c", Weight: 7, Base: "latest", Metrics: map[string]float64{"loss": 0.1}}, source)
		if err != nil {
			t.Fatal(err)
		}
		wantID := "r0-" + seed.digest.String()[:16]
		if r.ID != wantID || r.Base != seed.digest.String() || r.Duplicate {
			t.Errorf("receipt %+v", r)
		}
		if took := time.Since(begin); took > 25*time.Second {
			t.Errorf("took %v", took)
		}
		for _, f := range []*fake{slow, good} {
			p := f.pushed()
			if len(p) != 1 || p[0].ID != wantID || p[0].Base != seed.digest.String() || p[0].Length != int64(len(body)) || p[0].Weight != 7 || p[0].Metrics["loss"] != 0.1 {
				t.Errorf("pushes %+v", p)
			}
		}
		if !bytes.Equal(good.bodies[0], body) || opened < 2 {
			t.Errorf("%d bytes arrived, %d times opened", len(good.bodies[0]), opened)
		}
		// The one that failed lately comes last now; the others' time is over.
		m.hosts()
		if _, err := c.Push(t.Context(), "s", api.PushOptions{Combiner: "c", Weight: 7, ID: wantID, Base: seed.digest.String()}, source); err != nil {
			t.Fatal(err)
		}
		if got := m.hosts(); got != "bce" {
			t.Errorf("asked %q", got)
		}
		// At once, all that failed are passed over.
		if _, err := c.Mesh(t.Context()); err != nil || m.hosts() != "e" {
			t.Errorf("the ones that just failed were asked again: %v", err)
		}
	})
}

// TestPushStalls checks peers that stop reading in the middle, and ones that never answer.
func TestPushStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t)
		m.host("a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.CopyN(io.Discard, r.Body, 500_000)
			m.stall(w, r)
		}))
		f := newFake().with("s", someModel(t, 4, 1))
		m.peer("b", f)
		// Slow but moving: must not be given up.
		f.onPush = func(_ context.Context, req api.PushRequest) (api.Receipt, error) {
			buf := make([]byte, 64<<10)
			for {
				if _, err := io.ReadFull(req.Body, buf); err != nil {
					return api.Receipt{ID: "x"}, nil
				}
				time.Sleep(20 * time.Second)
			}
		}
		c := m.client(api.ClientOptions{IdleTimeout: 30 * time.Second}, "a", "b")
		_, err := c.Push(t.Context(), "s", api.PushOptions{Combiner: "c", Weight: 1, ID: "x"}, api.Bytes(make([]byte, 2<<20)))
		if got := m.hosts(); err != nil || got != "ab" {
			t.Errorf("asked %q, %v", got, err)
		}
	})
}

func TestWhatIsRetried(t *testing.T) {
	for _, tt := range []struct {
		name  string
		a, b  http.Handler
		asked string
		ok    bool
	}{
		{"400", status(400), nil, "a", false},
		{"401", status(401), nil, "a", false},
		{"404 not ours", status(404), nil, "a", false},
		{"409", status(409), nil, "a", false},
		{"422", status(422), nil, "a", false},
		{"302", status(302, "Location", "http://b:80/"), nil, "a", false},
		{"408", status(408), nil, "ab", true},
		{"429", status(429), nil, "ab", true},
		{"500", status(500), nil, "ab", true},
		{"502", status(502), nil, "ab", true},
		{"503", status(503), nil, "ab", true},
		{"not JSON", status(200), nil, "ab", true},
		{"stalls", nil, nil, "ab", true},
		{"aborts", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }), nil, "ab", true},
		{"all fail", status(500), status(503), "ab", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMesh(t)
				if tt.a == nil {
					tt.a = http.HandlerFunc(m.stall)
				}
				m.host("a", tt.a)
				if tt.b != nil {
					m.host("b", tt.b)
				} else {
					m.peer("b", newFake().with("s", someModel(t, 4, 1)))
				}
				c := m.client(api.ClientOptions{Passes: 1}, "a", "b")
				_, err := c.Session(t.Context(), "s")
				if (err == nil) != tt.ok {
					t.Errorf("got %v", err)
				}
				if got := m.hosts(); got != tt.asked {
					t.Errorf("asked %q, want %q", got, tt.asked)
				}
				if err != nil && strings.ContainsRune(err.Error(), 0x1b) {
					t.Errorf("the error carries an escape sequence: %q", err)
				}
			})
		})
	}
}

// TestUnknownHere checks that what one peer has not heard of is asked of the others.
func TestUnknownHere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t)
		m.peer("a", newFake())
		m.peer("b", newFake().with("s", someModel(t, 4, 1)))
		c := m.client(api.ClientOptions{}, "a", "b")
		if _, err := c.Push(t.Context(), "s", api.PushOptions{Combiner: "c", Weight: 1}, api.Bytes([]byte("x"))); err != nil {
			t.Error(err)
		}
		if got := m.hosts(); got != "ab" {
			t.Errorf("asked %q", got)
		}
		_, err := c.Session(t.Context(), "none")
		var p *api.Problem
		if got := m.hosts(); !api.TypeUnknownSession.Is(err) || !errors.As(err, &p) || got != "ab" {
			t.Errorf("asked %q, got %v", got, err)
		}
		_, err = c.Round(t.Context(), "s", 99)
		if !api.TypeUnknownRound.Is(err) && !api.TypeUnknownSession.Is(err) {
			t.Errorf("got %v", err)
		}
		// With one that does not answer it may be just that one that knows: a few passes, then it counts.
		m.hosts()
		c = m.client(api.ClientOptions{}, "a", "gone")
		begin := time.Now()
		if _, err = c.Session(t.Context(), "s"); !api.TypeUnknownSession.Is(err) || time.Since(begin) > time.Second {
			t.Errorf("after %v: %v", time.Since(begin), err)
		}
	})
}

// TestUntilTheContextEnds checks that a client goes on while nobody is there, and says why in the end.
func TestUntilTheContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t)
		m.host("a", status(503, "Retry-After", "2"))
		c := m.client(api.ClientOptions{}, "a", "gone")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		begin := time.Now()
		_, err := c.Sessions(ctx)
		var p *api.Problem
		if took := time.Since(begin); took != time.Minute || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after %v: %v", took, err)
		}
		if !strings.Contains(err.Error(), "refused") && !errors.As(err, &p) {
			t.Errorf("the error does not say what went wrong: %v", err)
		}
		if n := len(m.hosts()); n < 15 || n > 31 {
			t.Errorf("asked %d times in a minute", n)
		}
		// It comes up in the meantime.
		go func() {
			time.Sleep(3 * time.Minute)
			m.peer("gone", newFake().with("s", someModel(t, 4, 1)))
		}()
		if _, err := c.Session(t.Context(), "s"); err != nil {
			t.Error(err)
		}
	})
}

// TestCauseOutlivesTheContext checks that the end of the context hides neither why a peer failed nor who was asked in vain.
func TestCauseOutlivesTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t)
		m.host("silent", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
		for _, c := range []struct {
			peers []string
			says  []string
		}{
			{[]string{"gone", "silent"}, []string{"while asking http://silent", "last failure: http://gone", "connection refused"}},
			{[]string{"silent"}, []string{"while asking http://silent"}},
		} {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			_, err := m.client(api.ClientOptions{}, c.peers...).Sessions(ctx)
			cancel()
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%v: %v", c.peers, err)
			}
			for _, s := range c.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("%v: no %q in: %v", c.peers, s, err)
				}
			}
		}
	})
}

func TestShuffle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t)
		for _, h := range []string{"a", "b", "c"} {
			m.peer(h, newFake())
		}
		run := func() string {
			c := m.client(api.ClientOptions{Shuffle: true, Rand: rand.NewPCG(3, 4)}, "a", "b", "c")
			for range 20 {
				if _, err := c.Mesh(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			return m.hosts()
		}
		first, second := run(), run()
		if first != second {
			t.Errorf("the same source gave %s and %s", first, second)
		}
		for _, h := range []string{"a", "b", "c"} {
			if n := strings.Count(first, h); n < 2 {
				t.Errorf("%s was asked %d times of 20", h, n)
			}
		}
		one, err := m.client(api.ClientOptions{}, "a", "b", "c").Peer("b:80")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := one.Mesh(t.Context()); err != nil || m.hosts() != "b" || !slices.Equal(one.Peers(), []string{"http://b:80"}) {
			t.Errorf("a client of one peer: %v, %v", one.Peers(), err)
		}
	})
}

// TestLocalFaults checks that a fault on our own side is not tried again elsewhere.
func TestLocalFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t)
		m.peer("a", newFake().with("s", someModel(t, 100_000, 1)))
		m.peer("b", newFake().with("s", someModel(t, 100_000, 1)))
		c := m.client(api.ClientOptions{}, "a", "b")
		o := api.PushOptions{Combiner: "c", Weight: 1}
		broken := errors.New("bad sector")
		for name, source := range map[string]api.Source{
			"open": func() (io.ReadCloser, int64, error) { return nil, 0, broken },
			"read": func() (io.ReadCloser, int64, error) {
				return io.NopCloser(io.MultiReader(strings.NewReader(strings.Repeat("x", 100_000)), failing{broken})), 200_000, nil
			},
		} {
			if _, err := c.Push(t.Context(), "s", o, source); !errors.Is(err, broken) {
				t.Errorf("%s: got %v", name, err)
			}
			if got := m.hosts(); got != "" && got != "a" {
				t.Errorf("%s: asked %q", name, got)
			}
		}
		_, err := c.Pull(t.Context(), "s", api.PullOptions{}, writerFunc(func([]byte) (int, error) { return 0, broken }))
		if got := m.hosts(); !errors.Is(err, broken) || got != "a" {
			t.Errorf("pull: asked %q, %v", got, err)
		}
		_, err = c.Push(t.Context(), "s", o, api.File(filepath.Join(t.TempDir(), "none")))
		if err == nil || !strings.Contains(err.Error(), "no such file") {
			t.Errorf("no file: %v", err)
		}
	})
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// TestChecksBeforeAsking checks that no peer is bothered with what every peer would refuse.
func TestChecksBeforeAsking(t *testing.T) {
	c := client(t, api.ClientOptions{Passes: 1, DialContext: newMemNet().dial}, "nobody:1")
	ctx := within(t, ample)
	body := api.Bytes([]byte("x"))
	round := uint64(1)
	for name, call := range map[string]func() error{
		"session":  func() error { _, err := c.Session(ctx, "a/b"); return err },
		"create":   func() error { _, _, err := c.CreateSession(ctx, "", api.DefaultSessionConfig(), body); return err },
		"config":   func() error { _, _, err := c.CreateSession(ctx, "s", api.SessionConfig{}, body); return err },
		"weight":   func() error { _, err := c.Push(ctx, "s", api.PushOptions{Combiner: "c"}, body); return err },
		"combiner": func() error { _, err := c.Push(ctx, "s", api.PushOptions{Weight: 1}, body); return err },
		"base": func() error {
			_, err := c.Push(ctx, "s", api.PushOptions{Combiner: "c", Weight: 1, Base: "x"}, body)
			return err
		},
		"id": func() error {
			_, err := c.Push(ctx, "s", api.PushOptions{Combiner: "c", Weight: 1, ID: "a b"}, body)
			return err
		},
		"format": func() error { _, err := c.Pull(ctx, "s", api.PullOptions{Format: "onnx"}, io.Discard); return err },
		"digest": func() error { _, err := c.Pull(ctx, "s", api.PullOptions{Digest: "x"}, io.Discard); return err },
		"after":  func() error { _, err := c.Pull(ctx, "s", api.PullOptions{After: "x"}, io.Discard); return err },
		"both": func() error {
			_, err := c.Pull(ctx, "s", api.PullOptions{After: "1", Round: &round}, io.Discard)
			return err
		},
	} {
		if err := call(); !api.TypeInvalidRequest.Is(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := api.NewClient(nil, api.ClientOptions{}); err == nil {
		t.Error("a client of no peers")
	}
	for _, bad := range []string{"", "http://", "ftp://a:1", "a:1/path", "http://u:p@a:1", "http://a:1?x=1", "a b", ":8080", "http://a:port"} {
		if _, err := api.NewClient([]string{bad}, api.ClientOptions{}); err == nil {
			t.Errorf("the peer %q was taken", bad)
		}
	}
	got := client(t, api.ClientOptions{}, "127.0.0.1:8080", " http://b:1/ ", "https://c", "127.0.0.1:8080", "[::1]:9").Peers()
	if want := []string{"http://127.0.0.1:8080", "http://b:1", "https://c", "http://[::1]:9"}; !slices.Equal(got, want) {
		t.Errorf("peers %v", got)
	}
	if err := c.Leave(ctx); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("leave of nobody: %v", err)
	}
}

// TestRoundTrip goes through every call with a real server.
func TestRoundTrip(t *testing.T) {
	f := newFake()
	_, url := start(t, f, api.ServerOptions{})
	c := client(t, api.ClientOptions{}, url)
	ctx := within(t, ample)
	seed := someModel(t, 100, 1)
	cfg := api.DefaultSessionConfig()
	cfg.TargetCombiners, cfg.Params = 6, map[string]string{"x": "1"}
	for i, length := range []bool{true, false} {
		info, created, err := c.CreateSession(ctx, "s", cfg, func() (io.ReadCloser, int64, error) {
			rc, n, err := api.Bytes(seed.file)()
			if !length {
				n = -1
			}
			return rc, n, err
		})
		if err != nil || created != (i == 0) || info.Seed != seed.digest.String() || info.Config.TargetCombiners != 6 || info.Config.Params["x"] != "1" {
			t.Fatalf("create: %+v, %v, %v", info, created, err)
		}
	}
	f.sessions["s"].models[0].layout = seed.layout
	if l, err := c.Sessions(ctx); err != nil || len(l) != 1 || l[0].Name != "s" {
		t.Errorf("sessions: %+v, %v", l, err)
	}
	r, err := c.Push(ctx, "s", api.PushOptions{Combiner: "c", Weight: 1, Base: seed.digest.String()}, api.Bytes(seed.file))
	if err != nil || r.ID != api.DefaultID(0, seed.digest) {
		t.Errorf("push: %+v, %v", r, err)
	}
	var got bytes.Buffer
	info, err := c.Pull(ctx, "s", api.PullOptions{}, &got)
	if err != nil || !bytes.Equal(got.Bytes(), seed.file) || info.Digest != seed.digest || info.Bytes != int64(got.Len()) || info.Peer != url {
		t.Errorf("pull: %+v, %v", info, err)
	}
	if head, err := c.Head(ctx, "s", api.PullOptions{}); err != nil || head != info {
		t.Errorf("head: %+v, %v", head, err)
	}
	if _, err := c.Pull(ctx, "s", api.PullOptions{After: "0"}, io.Discard); !errors.Is(err, api.ErrNotModified) {
		t.Errorf("nothing newer: %v", err)
	}
	if l, err := c.Rounds(ctx, "s", 1, 10); err != nil || len(l) != 1 || l[0].Updates[0].Weight != 3 {
		t.Errorf("rounds: %+v, %v", l, err)
	}
	if r, err := c.Round(ctx, "s", 1); err != nil || r.Round != 1 {
		t.Errorf("round: %+v, %v", r, err)
	}
	if m, err := c.Mesh(ctx); err != nil || m.Peers[0].Rounds["s"] != (api.RoundModel{Round: 7, Model: "abcd"}) {
		t.Errorf("mesh: %+v, %v", m, err)
	}
	if info, err := c.CloseSession(ctx, "s"); err != nil || info.State != api.SessionClosed {
		t.Errorf("close: %+v, %v", info, err)
	}
	if err := c.Ready(ctx); err != nil {
		t.Errorf("ready: %v", err)
	}
	if err := c.Leave(ctx); err != nil || !f.left {
		t.Errorf("leave: %v", err)
	}
	if err := c.Leave(ctx); !api.TypeLastMember.Is(err) {
		t.Errorf("leave again: %v", err)
	}
	big := client(t, api.ClientOptions{}, url)
	f.onPush = func(context.Context, api.PushRequest) (api.Receipt, error) {
		return api.Receipt{}, api.WrongLayout("w", fmt.Errorf("api: tensor %q is missing", "w"))
	}
	_, err = big.Push(ctx, "s", api.PushOptions{Combiner: "c", Weight: 1}, api.Bytes(make([]byte, 8<<20)))
	var p *api.Problem
	if !errors.As(err, &p) || p.Status != 422 || p.Extra["tensor"] != "w" || p.Detail != `tensor "w" is missing` {
		t.Errorf("refused with %v", err)
	}
}
