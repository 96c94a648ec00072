package api_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/model/codec"
)

// dying serves like h, but its answers end after n bytes: with an abort, or by standing still.
func (m *mesh) dying(h http.Handler, n int64, stands bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(&cutWriter{ResponseWriter: w, left: n, cut: func() {
			_ = http.NewResponseController(w).Flush()
			if stands {
				m.stall(w, r)
			}
			panic(http.ErrAbortHandler)
		}}, r)
	})
}

type cutWriter struct {
	http.ResponseWriter
	left int64
	cut  func()
}

func (w *cutWriter) Write(p []byte) (int, error) {
	n := min(int64(len(p)), w.left)
	w.left -= n
	m, err := w.ResponseWriter.Write(p[:n])
	if n < int64(len(p)) && err == nil {
		w.cut()
	}
	return m, err
}

// TestPullResumes checks that a transfer that breaks goes on elsewhere, byte for byte, with the model it began with.
func TestPullResumes(t *testing.T) {
	for _, format := range []api.Format{api.Safetensors, api.NPZ} {
		for _, stands := range []bool{false, true} {
			t.Run(fmt.Sprint(format, stands), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					m := newMesh(t)
					first, second := someModel(t, 100_000, 1), someModel(t, 100_000, 2)
					server := func(models ...fakeModel) http.Handler {
						f := newFake().with("s", models[0])
						for _, next := range models[1:] {
							f.publish(next)
						}
						srv := api.NewServer(f, api.ServerOptions{Logger: zerolog.Nop()})
						t.Cleanup(srv.Close)
						return srv
					}
					m.host("a", m.dying(server(first), 150_000, stands))
					m.host("b", status(503))
					m.host("c", m.dying(server(first, second), 100_000, stands)) // has moved on meanwhile, and keeps the first
					m.host("d", server(second))                                  // has never had the first
					m.host("e", server(first, second))
					c := m.client(api.ClientOptions{}, "a", "b", "c", "d", "e")
					var got bytes.Buffer
					info, err := c.Pull(t.Context(), "s", api.PullOptions{Format: format}, &got)
					if err != nil {
						t.Fatal(err)
					}
					var want bytes.Buffer
					f := codec.Safetensors
					if format == api.NPZ {
						f = codec.NPZ
					}
					if err := codec.Emit(&want, f, first.layout, bytes.NewReader(first.file)); err != nil {
						t.Fatal(err)
					}
					if !bytes.Equal(got.Bytes(), want.Bytes()) || info.Digest != first.digest || info.Bytes != int64(want.Len()) || info.Peer != "http://e:80" {
						t.Errorf("%d bytes of %d, %+v", got.Len(), want.Len(), info)
					}
					if got := m.hosts(); got != "abcde" {
						t.Errorf("asked %q", got)
					}
				})
			})
		}
	}
}

// TestPullNoRanges resumes at a peer that ignores Range.
func TestPullNoRanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t)
		good, bad := someModel(t, 100_000, 1), someModel(t, 100_000, 2)
		serve := func(announced, sent fakeModel) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("ETag", `"`+announced.digest.String()+`"`)
				w.Header().Set("Fedmesh-Round", "3")
				_, _ = w.Write(sent.file)
			})
		}
		m.host("a", m.dying(serve(good, good), 150_000, false))
		m.host("b", serve(bad, bad)) // another model than asked for: passed over
		m.host("c", serve(good, good))
		m.host("d", serve(good, bad))
		m.host("x", status(200))
		var got bytes.Buffer
		info, err := m.client(api.ClientOptions{}, "a", "b", "c").Pull(t.Context(), "s", api.PullOptions{}, &got)
		if err != nil || !bytes.Equal(got.Bytes(), good.file) || info.Round != 3 {
			t.Errorf("%d bytes, %+v, %v", got.Len(), info, err)
		}
		// Other bytes than announced, at once and after a break.
		for _, peers := range [][]string{{"d"}, {"a", "d"}} {
			_, err := m.client(api.ClientOptions{}, peers...).Pull(t.Context(), "s", api.PullOptions{}, io.Discard)
			if !errors.Is(err, api.ErrDigest) {
				t.Errorf("%v: %v", peers, err)
			}
		}
		_, err = m.client(api.ClientOptions{}, "a", "d").Pull(t.Context(), "s", api.PullOptions{Format: api.NPZ}, io.Discard)
		if !errors.Is(err, api.ErrDigest) { // which no digest of the whole would show
			t.Errorf("npz: %v", err)
		}
		// Not a fedmesh peer.
		_, err = m.client(api.ClientOptions{Passes: 1}, "x").Pull(t.Context(), "s", api.PullOptions{}, io.Discard)
		if err == nil || !strings.Contains(err.Error(), "not a fedmesh peer") {
			t.Errorf("got %v", err)
		}
	})
}

func TestPullWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t)
		seed, next := someModel(t, 4, 1), someModel(t, 4, 2)
		f := newFake().with("s", seed)
		m.peer("a", f)
		c := m.client(api.ClientOptions{}, "a")
		begin := time.Now()
		_, err := c.Pull(t.Context(), "s", api.PullOptions{After: "0", Wait: 12 * time.Minute}, io.Discard)
		if took := time.Since(begin); !errors.Is(err, api.ErrNotModified) || took != 12*time.Minute {
			t.Errorf("after %v: %v", took, err)
		}
		go func() {
			time.Sleep(7 * time.Minute)
			f.publish(next)
		}()
		begin = time.Now()
		var got bytes.Buffer
		_, err = c.Pull(t.Context(), "s", api.PullOptions{After: seed.digest.String(), Wait: 12 * time.Minute}, &got)
		if took := time.Since(begin); err != nil || took != 7*time.Minute || !bytes.Equal(got.Bytes(), next.file) {
			t.Errorf("after %v: %v", took, err)
		}
		// A peer that will not wait is not asked in a tight loop.
		m.host("b", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }))
		m.hosts()
		begin = time.Now()
		_, err = m.client(api.ClientOptions{}, "b").Pull(t.Context(), "s", api.PullOptions{After: "5", Wait: time.Minute}, io.Discard)
		if took := time.Since(begin); !errors.Is(err, api.ErrNotModified) || took < time.Minute || took > 70*time.Second {
			t.Errorf("after %v: %v", took, err)
		}
		if n := len(m.hosts()); n > 60 {
			t.Errorf("asked %d times in a minute", n)
		}
		// A peer that has stopped in the middle of a poll is left for another.
		m.host("c", http.HandlerFunc(m.stall))
		begin = time.Now()
		_, err = m.client(api.ClientOptions{}, "c", "a").Pull(t.Context(), "s", api.PullOptions{After: "0", Wait: 10 * time.Minute}, io.Discard)
		if took := time.Since(begin); err != nil || took > 65*time.Second {
			t.Errorf("after %v: %v", took, err)
		}
	})
}
