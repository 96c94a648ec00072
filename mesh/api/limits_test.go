package api_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fedmesh/fedmesh/mesh/access"
	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/upload"
)

// slow is a fake whose pushes take a while once they have begun, through a buffer of their own as a peer's do.
type slow struct {
	*fake
	now, most atomic.Int64
	takes     func()
	done      sync.Map // combiners whose push came through
}

func (s *slow) Push(_ context.Context, req api.PushRequest) (api.Receipt, error) {
	n := s.now.Add(1)
	defer s.now.Add(-1)
	for m := s.most.Load(); n > m && !s.most.CompareAndSwap(m, n); m = s.most.Load() {
	}
	buf := make([]byte, 512<<10)
	if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{req.Body}, buf); err != nil {
		return api.Receipt{}, err
	}
	if s.takes != nil {
		s.takes()
	}
	s.done.Store(req.Combiner, true)
	return api.Receipt{Session: req.Session, Combiner: req.Combiner, ID: req.ID, Copies: []string{"a"}}, nil
}

// TestManyPushesAtOnce has 200 combiners push 1 MB each at once at a server that takes eight at a time and has room for 50 more: all come through, and
// memory does not grow with them.
func TestManyPushesAtOnce(t *testing.T) {
	const combiners, places = 200, 8
	s := &slow{fake: newFake().with("s", someModel(t, 4, 1))}
	_, url := start(t, s, api.ServerOptions{Limits: api.Limits{Uploads: places, Waiting: 50, Wait: 20 * time.Second}})
	body := make([]byte, 1<<20)
	_, _ = rand.Read(body)
	var before, peak runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	stop := make(chan struct{})
	var watcher, all sync.WaitGroup
	watcher.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				var m runtime.MemStats
				if runtime.ReadMemStats(&m); m.HeapInuse > peak.HeapInuse {
					peak = m
				}
			}
		}
	})
	ctx := within(t, ample)
	failed := make(chan error, combiners)
	for i := range combiners {
		all.Go(func() {
			c, err := api.NewClient([]string{url}, api.ClientOptions{})
			if err == nil {
				defer c.Close()
				_, err = c.Push(ctx, "s", api.PushOptions{Combiner: fmt.Sprint("c", i), ID: "1", Weight: 1, Base: ""}, api.Bytes(body))
			}
			if err != nil {
				failed <- err
			}
		})
	}
	all.Wait()
	close(stop)
	watcher.Wait()
	close(failed)
	for err := range failed {
		t.Error(err)
	}
	done := 0
	s.done.Range(func(any, any) bool { done++; return true })
	grown := int64(peak.HeapInuse) - int64(before.HeapInuse)
	t.Logf("%d pushes, at most %d at once, heap grew by %d KiB", done, s.most.Load(), grown>>10)
	if done != combiners || s.most.Load() > places {
		t.Errorf("%d of %d pushes, %d at once", done, combiners, s.most.Load())
	}
	// Clients and connections are in this process too, some 300 KiB each. A body or a buffer for each would be 200 or 100 MiB more.
	if grown > 150<<20 {
		t.Errorf("the heap grew by %d MiB", grown>>20)
	}
}

// TestFullServer: who waits too long for a place, and who finds too many waiting, is told to come back; who waited gets the next place.
func TestFullServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		taken := make(chan struct{})
		s := &slow{fake: newFake().with("s", someModel(t, 4, 1)), takes: func() { <-taken }}
		net := newMemNet()
		srv := api.NewServer(s, api.ServerOptions{Limits: api.Limits{Uploads: 2, Waiting: 3, Wait: 5 * time.Second}})
		stop := net.serve("a:80", srv.HTTPServer(srv))
		defer func() {
			srv.Close()
			stop()
		}()
		hc := &http.Client{Transport: &http.Transport{DialContext: net.dial, DisableKeepAlives: true}}
		push := func(i int) *http.Response {
			r, _ := http.NewRequest("PUT", "http://a:80/v1/sessions/s/updates/c"+strconv.Itoa(i)+"?weight=1", strings.NewReader("x"))
			resp, err := hc.Do(r)
			if err != nil {
				t.Error(err)
				return &http.Response{}
			}
			_ = resp.Body.Close()
			return resp
		}
		var under sync.WaitGroup
		statuses := make([]int, 6)
		for i := range statuses {
			under.Go(func() {
				time.Sleep(time.Duration(i) * time.Millisecond)
				begun := time.Now()
				resp := push(i)
				statuses[i] = resp.StatusCode
				if resp.StatusCode == 503 {
					if n, err := strconv.Atoi(resp.Header.Get("Retry-After")); err != nil || n < 1 || n > 4 {
						t.Errorf("Retry-After %q", resp.Header.Get("Retry-After"))
					}
					if took := time.Since(begun); i < 5 && took != 5*time.Second || i == 5 && took != 0 {
						t.Errorf("%d was told after %v", i, took)
					}
				}
			})
		}
		time.Sleep(2 * time.Second)
		taken <- struct{}{} // one ends, and who came first of those that wait gets its place
		time.Sleep(10 * time.Second)
		close(taken)
		under.Wait()
		if fmt.Sprint(statuses) != "[201 201 201 503 503 503]" {
			t.Errorf("%v", statuses)
		}
		if resp := push(9); resp.StatusCode != 201 {
			t.Errorf("afterwards: %d", resp.StatusCode)
		}
	})
}

// TestPlacesOfOneToken: a token that has its places taken does not take those of others.
func TestPlacesOfOneToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var file tokens
		one, two := file.add(t, access.Grant{Role: access.Combiner}), file.add(t, access.Grant{Role: access.Combiner})
		taken := make(chan struct{})
		s := &slow{fake: newFake().with("s", someModel(t, 4, 1)), takes: func() { <-taken }}
		net := newMemNet()
		srv := api.NewServer(s, api.ServerOptions{Tokens: file.set(t), Limits: api.Limits{Uploads: 3, UploadsPerToken: 2, Wait: time.Second}})
		stop := net.serve("a:80", srv.HTTPServer(srv))
		defer func() {
			srv.Close()
			stop()
		}()
		hc := &http.Client{Transport: &http.Transport{DialContext: net.dial, DisableKeepAlives: true}}
		var under sync.WaitGroup
		push := func(token string, want int) {
			under.Go(func() {
				r, _ := http.NewRequest("PUT", "http://a:80/v1/sessions/s/updates/c?weight=1", strings.NewReader("x"))
				r.Header.Set("Authorization", "Bearer "+token)
				resp, err := hc.Do(r)
				if err != nil {
					t.Error(err)
					return
				}
				defer resp.Body.Close()
				if resp.StatusCode != want || want == 429 && resp.Header.Get("Retry-After") == "" {
					t.Errorf("status %d, %v; want %d", resp.StatusCode, resp.Header, want)
				}
			})
			synctest.Wait()
		}
		push(one, 201)
		push(one, 201)
		push(one, 429)
		push(two, 201)
		push(two, 503)
		time.Sleep(2 * time.Second)
		close(taken)
		under.Wait()
		push(one, 201)
		under.Wait()
	})
}

// TestRequestRate counts by token, and by address without one; what watches a peer is not counted.
func TestRequestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var file tokens
		one, two := file.add(t, access.Grant{Role: access.Reader}), file.add(t, access.Grant{Role: access.Reader})
		net := newMemNet()
		srv := api.NewServer(newFake().with("s", someModel(t, 4, 1)), api.ServerOptions{Tokens: file.set(t), Limits: api.Limits{Requests: 5}})
		stop := net.serve("a:80", srv.HTTPServer(srv))
		defer func() {
			srv.Close()
			stop()
		}()
		hc := &http.Client{Transport: &http.Transport{DialContext: net.dial, DisableKeepAlives: true}}
		get := func(path, token string) *http.Response {
			r, _ := http.NewRequest("GET", "http://a:80"+path, nil)
			if token != "" {
				r.Header.Set("Authorization", "Bearer "+token)
			}
			resp, err := hc.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			return resp
		}
		count := func(path, token string, requests, want int) {
			t.Helper()
			good := 0
			for range requests {
				switch resp := get(path, token); resp.StatusCode {
				case 200, 401:
					good++
				case 429:
					if resp.Header.Get("Retry-After") != "1" {
						t.Errorf("Retry-After %q", resp.Header.Get("Retry-After"))
					}
				default:
					t.Errorf("status %d", resp.StatusCode)
				}
			}
			if good != want {
				t.Errorf("%d of %d requests of %s went through, want %d", good, requests, path, want)
			}
		}
		count("/v1/mesh", one, 30, 10)
		count("/v1/mesh", two, 30, 10) // each its own
		count("/v1/mesh", "", 30, 10)
		count("/v1/login", "", 3, 0)
		count("/v1/mesh", access.NewToken(), 3, 0) // guessing is counted by address too
		count("/healthz", "", 30, 30)
		time.Sleep(time.Second)
		count("/v1/mesh", one, 30, 5)
	})
}

func TestAddresses(t *testing.T) {
	for remote, want := range map[string]string{
		"10.1.2.3:55": "10.1.2.3", "[::ffff:10.1.2.3]:55": "10.1.2.3", "[2001:db8:1:2:3::4]:5": "2001:db8:1:2::/64", "[fe80::1%eth0]:5": "fe80::/64", "pipe": "unknown", "": "unknown",
	} {
		if got := api.Address(remote); got != want {
			t.Errorf("%s is counted as %s, want %s", remote, got, want)
		}
	}
}

// TestAccountsAreBounded: callers without number share an account rather than fill the memory.
func TestAccountsAreBounded(t *testing.T) {
	if n := api.AccountsAfter(t, 100_000); n > 17_000 {
		t.Errorf("%d accounts", n)
	}
}

// TestClientComesBackWhenTold: Retry-After is obeyed, also beyond what the client would wait of itself, and a peer that asked for more time than another is left alone.
func TestClientComesBackWhenTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := newMemNet()
		var mu sync.Mutex
		var came []string
		begun := time.Now()
		peer := func(name string, until, retry time.Duration, status int) func() {
			hs := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				mu.Lock()
				came = append(came, fmt.Sprintf("%s@%v", name, time.Since(begun).Round(time.Second)))
				mu.Unlock()
				if time.Since(begun) < until {
					w.Header().Set("Retry-After", strconv.Itoa(int(retry.Seconds())))
					w.WriteHeader(status)
					return
				}
				_, _ = io.WriteString(w, `{"self":"`+name+`"}`)
			})}
			return net.serve(name+":80", hs)
		}
		defer peer("a", time.Hour, 20*time.Second, 429)()
		defer peer("b", 15*time.Second, 8*time.Second, 503)()
		c := client(t, api.ClientOptions{DialContext: net.dial}, "a:80", "b:80")
		info, err := c.Mesh(within(t, time.Minute))
		if err != nil || info.Self != "b" {
			t.Fatal(info, err)
		}
		if got := strings.Join(came, " "); got != "a@0s b@0s b@8s b@16s" {
			t.Errorf("it came %s", got)
		}
	})
}

// TestUploadComesBackWhenTold: the pieces of an upload that is refused for now are not sent again at once.
func TestUploadComesBackWhenTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := taking(newFake().with("s", someModel(t, 4, 1)), upload.Options{})
		defer f.set.Close()
		net := newMemNet()
		srv := api.NewServer(f, api.ServerOptions{})
		begun, refused := time.Now(), 0
		stop := net.serve("a:80", srv.HTTPServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPatch && time.Since(begun) < 20*time.Second {
				refused++
				w.Header().Set("Retry-After", "7")
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			srv.ServeHTTP(w, r)
		})))
		defer func() {
			srv.Close()
			stop()
		}()
		c := client(t, api.ClientOptions{DialContext: net.dial, ResumeFrom: 1}, "a:80")
		_, err := c.Push(within(t, time.Minute), "s", api.PushOptions{Combiner: "c", ID: "1", Weight: 1}, api.Bytes([]byte("some bytes")))
		if took := time.Since(begun); err != nil || refused != 3 || took < 21*time.Second || took > 25*time.Second {
			t.Errorf("%v, refused %d times, after %v", err, refused, took)
		}
	})
}
