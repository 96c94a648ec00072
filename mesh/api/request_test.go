package api_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/rs/zerolog"

	"github.com/fedmesh/fedmesh/mesh/api"
)

// TestRequestIDs checks which ids a server takes from a request's headers.
func TestRequestIDs(t *testing.T) {
	const trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	for _, c := range []struct {
		own, foreign, trace string
		want                string // empty: one of its own
	}{
		{"abc", "", "", "abc"},
		{"A.b_c-9", "x", trace, "A.b_c-9"},
		{"", "x", trace, "x"},
		{"", "", trace, "4bf92f3577b34da6a3ce929d0e0e4736"},
		{"", "", "00-00000000000000000000000000000000-00f067aa0ba902b7-01", ""},
		{"", "", "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", ""},
		{"", "", "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", ""},
		{"", "", "4bf92f3577b34da6a3ce929d0e0e4736", ""},
		{"", "", "", ""},
		{"with space", "", "", ""},
		{"line\tline", "x", "", "x"},
		{"ü", "", "", ""},
		{strings.Repeat("a", 64), "", "", strings.Repeat("a", 64)},
		{strings.Repeat("a", 65), "", "", ""},
	} {
		h := http.Header{}
		h.Set("Fedmesh-Request", c.own)
		h.Set("X-Request-Id", c.foreign)
		h.Set("traceparent", c.trace)
		got := api.RequestFrom(h)
		if c.want != "" && got != c.want || c.want == "" && (len(got) != 16 || api.CheckRequestID(got) != nil || got == api.RequestFrom(h)) {
			t.Errorf("%+v: %q", c, got)
		}
	}
}

// TestEveryAnswerHasItsRequest checks that answers of all kinds name their request, and that the log does.
func TestEveryAnswerHasItsRequest(t *testing.T) {
	f := newFake().with("s", someModel(t, 4, 1))
	var log logTo
	_, url := start(t, f, api.ServerOptions{Logger: zerolog.New(&log)})
	for path, status := range map[string]int{"/v1/sessions": 200, "/nothing": 404, "/v1/sessions/a%2Fb": 400, "/v1/sessions/s/model": 200, "/v1//": 400} {
		for _, id := range []string{"mine", ""} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("X-Request-Id", id)
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			got := resp.Header.Get("Fedmesh-Request")
			if resp.StatusCode != status || id != "" && got != id || id == "" && len(got) != 16 {
				t.Errorf("GET %s with %q: %d, %q", path, id, resp.StatusCode, got)
			}
			if !strings.Contains(log.String(), `"request":"`+got+`"`) {
				t.Errorf("GET %s: the log does not have %q", path, got)
			}
		}
	}
}

// TestPushHasOneRequest checks that all tries of a push, at all peers, carry one id, and their numbers.
func TestPushHasOneRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t)
		var ids, tries []string
		failing := func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPut {
				ids, tries = append(ids, r.Header.Get("Fedmesh-Request")), append(tries, r.Header.Get("Fedmesh-Try"))
			}
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		m.host("a", http.HandlerFunc(failing))
		m.host("b", http.HandlerFunc(failing))
		f := newFake().with("s", someModel(t, 4, 1))
		m.peer("c", f)
		c := m.client(api.ClientOptions{}, "a", "b", "c")
		r, err := c.Push(t.Context(), "s", api.PushOptions{Combiner: "c", ID: "u", Weight: 1}, api.Bytes([]byte("x")))
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Request) != 16 || len(ids) != 2 || ids[0] != r.Request || ids[1] != r.Request || f.pushes[0].Request != r.Request {
			t.Errorf("the receipt says %q, the peers heard %q and %q", r.Request, ids, f.pushes[0].Request)
		}
		if strings.Join(tries, " ") != "1 2" {
			t.Errorf("tries %q", tries)
		}
		if r, err = c.Push(t.Context(), "s", api.PushOptions{Combiner: "c", ID: "v", Weight: 1, Request: "chosen"}, api.Bytes([]byte("y"))); err != nil || r.Request != "chosen" {
			t.Errorf("%q, %v", r.Request, err)
		}
		var p *api.Problem
		if _, err = c.Push(t.Context(), "s", api.PushOptions{Combiner: "c", Weight: 1, Request: "no\nlines"}, api.Bytes(nil)); !errors.As(err, &p) || p.Extra["parameter"] != "request" {
			t.Error(err)
		}
		if b, _ := json.Marshal(r); !strings.Contains(string(b), `"request":"chosen"`) {
			t.Errorf("%s", b)
		}
	})
}

// TestUploadHasOneRequest checks that an upload that breaks off goes on under the id that it was begun with.
func TestUploadHasOneRequest(t *testing.T) {
	uploading(t, func(t *testing.T, m *mesh, f *taker) {
		srv := api.NewServer(f, api.ServerOptions{})
		t.Cleanup(srv.Close)
		var seen []string
		m.host("a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			m.mu.Lock()
			seen = append(seen, r.Method+" "+r.Header.Get("Fedmesh-Request")+" "+r.Header.Get("Fedmesh-Try"))
			m.mu.Unlock()
			srv.ServeHTTP(w, r)
		}))
		cut := &cutting{dial: m.dial, after: []int64{1 << 20}}
		c := client(t, api.ClientOptions{DialContext: cut.dialContext, ResumeFrom: 1 << 20}, "a:80")
		if _, err := c.Push(t.Context(), "s", api.PushOptions{Combiner: "c", Weight: 7, ID: "u", Request: "up"}, api.Bytes(bodyOf(3<<20))); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(seen, "\n"); got != "POST up 1\nPATCH up 2\nHEAD up \nPATCH up 3\nGET up " {
			t.Errorf("the requests were\n%s", got)
		}
	})
}
