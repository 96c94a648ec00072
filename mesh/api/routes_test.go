package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/model"
	"github.com/fedmesh/fedmesh/model/codec"
)

func TestPush(t *testing.T) {
	f := newFake().with("s", someModel(t, 4, 1))
	_, url := start(t, f, api.ServerOptions{})
	base := strings.Repeat("AB", 32)
	path := url + "/v1/sessions/s/updates/c-1?weight=274877906943&base=" + base + "&id=r1~!@x&metric.loss=0.25&metric.acc=1e-3"
	for i, want := range []int{201, 200} {
		resp := do(t, "PUT", path, strings.NewReader("some model"))
		if resp.StatusCode != want {
			t.Fatalf("push %d: status %d, want %d", i, resp.StatusCode, want)
		}
		var raw map[string]any
		if err := json.NewDecoder(resp.Body).Decode(&raw); err != nil {
			t.Fatal(err)
		}
		for _, k := range []string{"session", "combiner", "id", "digest", "base", "round", "copies", "duplicate"} {
			if _, ok := raw[k]; !ok {
				t.Errorf("the receipt has no %q", k)
			}
		}
		if raw["duplicate"] != (want == 200) {
			t.Errorf("push %d: duplicate %v", i, raw["duplicate"])
		}
	}
	got := f.pushed()[0]
	if got.Session != "s" || got.Combiner != "c-1" || got.ID != "r1~!@x" || got.Weight != api.MaxWeight || got.Base != strings.ToLower(base) ||
		got.Length != 10 || len(got.Metrics) != 2 || got.Metrics["loss"] != 0.25 || got.Metrics["acc"] != 1e-3 {
		t.Errorf("the backend got %+v", got)
	}
	if p := problem(t, do(t, "PUT", path, strings.NewReader("other bytes"))); !api.TypeUpdateConflict.Is(p) || p.Extra["held"] == "" {
		t.Errorf("other bytes: %v", p)
	}

	// Chunked, nothing optional.
	resp := do(t, "PUT", url+"/v1/sessions/s/updates/c?weight=1", io.MultiReader(strings.NewReader("some model")))
	if got := f.pushed()[3]; resp.StatusCode != 201 || got.Length != -1 || got.ID != "" || got.Base != "" || got.Metrics != nil {
		t.Errorf("status %d, the backend got %+v", resp.StatusCode, got)
	}
	if p := problem(t, do(t, "PUT", url+"/v1/sessions/s/updates/c?weight=1", strings.NewReader("x"), "Content-Encoding", "gzip")); p.Status != 415 {
		t.Errorf("gzip: %v", p)
	}
}

// TestChunkedTooLarge checks the limit where no length announces the excess, whatever the backend says about it.
func TestChunkedTooLarge(t *testing.T) {
	f := newFake().with("s", someModel(t, 4, 1))
	_, url := start(t, f, api.ServerOptions{MaxBody: 1000})
	f.onPush = func(_ context.Context, req api.PushRequest) (api.Receipt, error) {
		if n, err := io.Copy(io.Discard, req.Body); err == nil || n > 1000 {
			t.Errorf("the backend read %d bytes, %v", n, err)
		}
		return api.Receipt{}, api.UnreadableModel(errors.New("cut short"))
	}
	p := problem(t, do(t, "PUT", url+"/v1/sessions/s/updates/c?weight=1", io.MultiReader(bytes.NewReader(make([]byte, 5000)))))
	if !api.TypeTooLarge.Is(p) {
		t.Errorf("got %v", p)
	}
}

func TestOpenSession(t *testing.T) {
	f := newFake()
	_, url := start(t, f, api.ServerOptions{})
	put := func(name string, parts ...string) *http.Response {
		body, kind := form(parts...)
		return do(t, "PUT", url+"/v1/sessions/"+name, strings.NewReader(body), "Content-Type", kind)
	}
	seed := "a seed model of some bytes"
	if resp := put("s", "config", `{"copies": 3, "round_timeout": "1m30s", "params": {"x": "1"}}`, "seed", seed); resp.StatusCode != 201 || resp.Header.Get("Location") != "/v1/sessions/s" {
		t.Fatalf("status %d, location %q", resp.StatusCode, resp.Header.Get("Location"))
	}
	info, err := f.Session("s")
	if err != nil {
		t.Fatal(err)
	}
	want := api.DefaultSessionConfig()
	if c := info.Config; c.Copies != 3 || c.RoundTimeout.String() != "1m30s" || c.Params["x"] != "1" || c.SettleTimeout != want.SettleTimeout || c.Strategy != "fedavg" {
		t.Errorf("config %+v", c)
	}
	if info.Seed != model.Sum([]byte(seed)).String() {
		t.Error("the backend got another seed")
	}
	if resp := put("s", "seed", seed); resp.StatusCode != 200 {
		t.Errorf("again: status %d", resp.StatusCode)
	}
	if p := problem(t, put("s", "seed", seed+"!")); !api.TypeSessionConflict.Is(p) {
		t.Errorf("another seed: %v", p)
	}
	if resp := do(t, "POST", url+"/v1/sessions/s/close", nil); resp.StatusCode != 200 {
		t.Errorf("close: status %d", resp.StatusCode)
	}

	for _, tt := range []struct {
		parts []string
		says  string
	}{
		{[]string{"config", `{"copies": 1}`}, "seed"},
		{[]string{"seed", seed, "config", `{}`}, "must come before"},
		{[]string{"seed", seed, "more", "x"}, "must be the last"},
		{[]string{"config", `{}`, "config", `{}`, "seed", seed}, "twice"},
		{[]string{"model", seed}, `"model"`},
		{[]string{"config", `{"copys": 3}`, "seed", seed}, "copys"},
		{[]string{"config", `{"copies": 0, "min_combiners": 0}`, "seed", seed}, "min_combiners"},
		{[]string{"config", `{"copies": "two"}`, "seed", seed}, "copies"},
		{[]string{"config", `{"round_timeout": 60}`, "seed", seed}, "round_timeout"},
		{[]string{"config", `{"round_timeout": "soon"}`, "seed", seed}, "soon"},
		{[]string{"config", `{"strategy": "../x"}`, "seed", seed}, "strategy"},
		{[]string{"config", `{} {}`, "seed", seed}, "follows"},
		{[]string{"config", `nonsense`, "seed", seed}, "config"},
		{[]string{"config", `{"strategy": "` + strings.Repeat("x", 70000) + `"}`, "seed", seed}, "65536"},
		{[]string{"seed", ""}, "too short"},
	} {
		p := problem(t, put("bad", tt.parts...))
		if p.Status != 400 || !strings.Contains(p.Detail, tt.says) && !strings.Contains(fmt.Sprint(p.Extra["parameter"]), tt.says) {
			t.Errorf("%.60q: %v does not say %q", tt.parts, p, tt.says)
		}
	}
	// All faults at once.
	p := problem(t, put("bad", "config", `{"copies": 0, "min_combiners": 0}`, "seed", seed))
	if faults, ok := p.Extra["faults"].([]any); !ok || len(faults) != 2 {
		t.Errorf("faults %v", p.Extra["faults"])
	}
	// Cut off at every byte: never accepted, always a problem.
	body, kind := form("config", "{}", "seed", seed)
	for n := range len(body) - 4 { // the last boundary may lack its line end
		p := problem(t, do(t, "PUT", url+"/v1/sessions/cut", strings.NewReader(body[:n]), "Content-Type", kind))
		if p.Status != 400 {
			t.Errorf("cut at %d: %v", n, p)
		}
	}
	if _, err := f.Session("cut"); err == nil {
		t.Error("a cut body opened a session")
	}
	for _, kind := range []string{"", "text/plain", "multipart/form-data", "multipart/mixed; boundary=xx", "multipart/form-data; boundary"} {
		if p := problem(t, do(t, "PUT", url+"/v1/sessions/bad", strings.NewReader(body), "Content-Type", kind)); p.Status != 415 {
			t.Errorf("content type %q: %v", kind, p)
		}
	}
}

func TestModel(t *testing.T) {
	seed, next := someModel(t, 1000, 1), someModel(t, 1000, 2)
	f := newFake().with("s", seed)
	f.publish(next)
	var opened, closed atomic.Int64
	f.onModel = func(m api.Model) (api.Model, error) {
		opened.Add(1)
		m.Blob = onClose(m.Blob, func() { closed.Add(1) })
		return m, nil
	}
	_, url := start(t, f, api.ServerOptions{})
	url += "/v1/sessions/s"
	var asNPZ bytes.Buffer
	if err := codec.Emit(&asNPZ, codec.NPZ, next.layout, bytes.NewReader(next.file)); err != nil {
		t.Fatal(err)
	}
	etag := `"` + next.digest.String() + `"`
	tests := []struct {
		path   string
		header []string
		status int
		body   []byte
		m      fakeModel
		round  string
	}{
		{"/model", nil, 200, next.file, next, "1"},
		{"/model?format=safetensors", []string{"Accept", "application/x-npz"}, 200, next.file, next, "1"},
		{"/model?format=npz", nil, 200, asNPZ.Bytes(), next, "1"},
		{"/models/0", nil, 200, seed.file, seed, "0"},
		{"/models/latest", nil, 200, next.file, next, "1"},
		{"/models/" + seed.digest.String(), nil, 200, seed.file, seed, "0"},
		{"/models/" + strings.ToUpper(seed.digest.String()), nil, 200, seed.file, seed, "0"},
		{"/model", []string{"Range", "bytes=100-"}, 206, next.file[100:], next, "1"},
		{"/models/1", []string{"Range", "bytes=100-199", "If-Range", etag}, 206, next.file[100:200], next, "1"},
		{"/models/1", []string{"Range", "bytes=100-199", "If-Range", `"other"`}, 200, next.file, next, "1"},
		{"/model?format=npz", []string{"Range", "bytes=100-"}, 200, asNPZ.Bytes(), next, "1"},
		{"/model", []string{"If-None-Match", etag}, 304, nil, next, ""},
		{"/model?format=npz", []string{"If-None-Match", `"x", W/` + etag}, 304, nil, next, ""},
		{"/model", []string{"If-None-Match", `"other"`}, 200, next.file, next, "1"},
		{"/model?after=0", nil, 200, next.file, next, "1"},
		{"/model?after=" + seed.digest.String(), nil, 200, next.file, next, "1"},
		{"/model?after=1", nil, 204, nil, next, "1"},
		{"/model?after=" + next.digest.String(), nil, 204, nil, next, "1"},
		{"/model?after=1", []string{"If-None-Match", etag}, 304, nil, next, "1"},
		{"/model?wait=1ms", []string{"If-None-Match", etag}, 304, nil, next, "1"},
		{"/model?wait=5m", nil, 200, next.file, next, "1"},
	}
	for _, tt := range tests {
		for _, method := range []string{"GET", "HEAD"} {
			resp := do(t, method, url+tt.path, nil, tt.header...)
			b, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != tt.status {
				t.Errorf("%s %s %q: status %d, want %d", method, tt.path, tt.header, resp.StatusCode, tt.status)
				continue
			}
			if method == "GET" && !bytes.Equal(b, tt.body) {
				t.Errorf("%s %q: %d other bytes, want %d", tt.path, tt.header, len(b), len(tt.body))
			}
			if got := resp.Header.Get("ETag"); got != `"`+tt.m.digest.String()+`"` {
				t.Errorf("%s %s %q: etag %s", method, tt.path, tt.header, got)
			}
			if got := resp.Header.Get("Fedmesh-Round"); tt.round != "" && got != tt.round {
				t.Errorf("%s %s %q: round %q, want %q", method, tt.path, tt.header, got, tt.round)
			}
			if resp.StatusCode < 300 && tt.body != nil && resp.ContentLength != int64(len(tt.body)) {
				t.Errorf("%s %s %q: length %d, want %d", method, tt.path, tt.header, resp.ContentLength, len(tt.body))
			}
		}
	}
	p := problem(t, do(t, "GET", url+"/model", nil, "Range", "bytes=999999-"))
	if p.Status != 416 || !strings.Contains(p.Detail, "*/") {
		t.Errorf("range past the end: %v", p)
	}
	if opened.Load() == 0 {
		t.Error("no model was opened")
	}
	for opened.Load() != closed.Load() { // after the answer is out
		runtime.Gosched()
	}
}

// brokenBlob fails after some bytes.
type brokenBlob struct {
	io.ReaderAt
	limit int64
}

func (b brokenBlob) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > b.limit {
		return 0, errors.New("disk on fire")
	}
	return b.ReaderAt.ReadAt(p, off)
}
func (brokenBlob) Close() error { return nil }

// TestModelBreaks checks that half a model cannot be taken for a whole one.
func TestModelBreaks(t *testing.T) {
	f := newFake().with("s", someModel(t, 100_000, 1))
	f.onModel = func(m api.Model) (api.Model, error) {
		m.Blob = brokenBlob{m.Blob, 300_000}
		return m, nil
	}
	_, url := start(t, f, api.ServerOptions{})
	for _, format := range []string{"safetensors", "npz"} {
		req, err := http.NewRequest("GET", url+"/v1/sessions/s/model?format="+format, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Close = true
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			var b []byte
			b, err = io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if resp.StatusCode >= 500 && format == "npz" {
				continue // npz reads all of a tensor before its header is out
			}
			if err == nil {
				t.Errorf("%s: %d bytes and no error", format, len(b))
			}
		}
	}
}

func TestRoundsAndMesh(t *testing.T) {
	f := newFake().with("s", someModel(t, 4, 1))
	f.publish(someModel(t, 4, 2))
	_, url := start(t, f, api.ServerOptions{})
	for path, want := range map[string]string{
		"/v1/sessions/s/rounds?from=2&limit=5": `{"rounds":[{"round":2,"state":"open","model":"","inputs":"","updates":[{"combiner":"c","id":"1","digest":"","weight":3,"base":"","base_round":0,"copies":[]}],"weight":0,"metrics":{},"computed":{},"waiting_for":[],"lost":[],"compacted":false,"combiners":0,"sealed":[],"took":[],"versions":0,"divergent":false}]}`,
		"/v1/sessions/s/rounds?from=7":         `{"rounds":[]}`,
		"/v1/mesh":                             `{"self":"a","mesh":"test","peers":[{"name":"a","log":"00","state":"alive","api":"127.0.0.1:1","vector_lag":0,"rounds":{"s":[7,"abcd"]},"held":0,"held_bytes":0}],"agreed":true,"disk":0}`,
		"/healthz":                             `{"status":"ok"}`,
	} {
		resp := do(t, "GET", url+path, nil)
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.TrimSpace(string(b)); got != want {
			t.Errorf("%s:\n got %s\nwant %s", path, got, want)
		}
	}
}
