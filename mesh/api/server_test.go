package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/model"
)

// TestRefusals goes through what each route refuses, with the words that must name the fault.
func TestRefusals(t *testing.T) {
	f := newFake().with("s", someModel(t, 4, 1))
	_, url := start(t, f, api.ServerOptions{MaxBody: 1000})
	long := strings.Repeat("n", 300)
	good := "/v1/sessions/s/updates/c?weight=1"
	tests := []struct {
		method, path, body string
		status             int
		kind               api.ProblemType
		says               string
	}{
		// Names.
		{"GET", "/v1/sessions/" + long, "", 400, api.TypeInvalidRequest, "300 bytes"},
		{"GET", "/v1/sessions/" + long[:129], "", 400, api.TypeInvalidRequest, "129 bytes"},
		{"GET", "/v1/sessions/" + long[:128], "", 404, api.TypeUnknownSession, ""},
		{"GET", "/v1/sessions/a%2Fb", "", 400, api.TypeInvalidRequest, `'/'`},
		{"GET", "/v1/sessions/a%5Cb", "", 400, api.TypeInvalidRequest, `'\\'`},
		{"GET", "/v1/sessions/a%2f%2fb", "", 400, api.TypeInvalidRequest, "segments"},
		{"PUT", "/v1/sessions/a/b", "x", 404, api.TypeUnknownRoute, "names contain no slashes"},
		{"GET", "/v1/sessions/%C3%BCber", "", 400, api.TypeInvalidRequest, `\u00fc`},
		{"GET", "/v1/sessions/über", "", 400, api.TypeInvalidRequest, `\u00fc`},
		{"GET", "/v1/sessions/%ff", "", 400, api.TypeInvalidRequest, "A-Z"},
		{"GET", "/v1/sessions/.hidden", "", 400, api.TypeInvalidRequest, "starts with a dot"},
		{"GET", "/v1/sessions/%2e%2e", "", 400, api.TypeInvalidRequest, "segments"},
		{"GET", "/v1/sessions/%2e%2e/model", "", 400, api.TypeInvalidRequest, "segments"},
		{"GET", "/v1/sessions//model", "", 400, api.TypeInvalidRequest, "segments"},
		{"GET", "/v1/sessions/a%00b", "", 400, api.TypeInvalidRequest, `\x00`},
		{"GET", "/v1/sessions/a%20b", "", 400, api.TypeInvalidRequest, `' '`},
		{"PUT", "/v1/sessions/s/updates/c%2Fd?weight=1", "x", 400, api.TypeInvalidRequest, `'/'`},
		{"PUT", "/v1/sessions/s/updates/" + long + "?weight=1", "x", 400, api.TypeInvalidRequest, "combiner"},
		// Routes and methods.
		{"GET", "/nothing", "", 404, api.TypeUnknownRoute, ""},
		{"GET", "/v1", "", 404, api.TypeUnknownRoute, ""},
		{"GET", "/v1/sessions/", "", 404, api.TypeUnknownRoute, ""},
		{"DELETE", "/v1/sessions/s", "", 405, api.TypeMethodNotAllowed, "GET, HEAD, PUT"},
		{"POST", "/v1/mesh", "", 405, api.TypeMethodNotAllowed, "GET"},
		{"BREW", "/v1/mesh", "", 405, api.TypeMethodNotAllowed, "GET"},
		{"GET", "/v1/sessions/s/updates/c", "", 405, api.TypeMethodNotAllowed, "PUT"},
		{"GET", "/v1/leave", "", 405, api.TypeMethodNotAllowed, "POST"},
		{"GET", "/v1/forget", "", 405, api.TypeMethodNotAllowed, "POST"},
		{"GET", "/metrics", "", 404, api.TypeUnknownRoute, "no metrics"},
		// Queries.
		{"GET", "/v1/sessions?x=1", "", 400, api.TypeInvalidRequest, `"x"`},
		{"GET", "/v1/sessions/s?x=1", "", 400, api.TypeInvalidRequest, `"x"`},
		{"GET", "/v1/mesh?%zz", "", 400, api.TypeInvalidRequest, "query"},
		{"GET", "/v1/mesh?a=1;b=2", "", 400, api.TypeInvalidRequest, "query"},
		{"POST", "/v1/leave?now=1", "", 400, api.TypeInvalidRequest, `"now"`},
		{"GET", "/v1/events?session=.x", "", 400, api.TypeInvalidRequest, "dot"},
		// Weights, bases, ids, metrics.
		{"PUT", "/v1/sessions/s/updates/c", "x", 400, api.TypeInvalidRequest, "weight is missing"},
		{"PUT", "/v1/sessions/s/updates/c?weight=0", "x", 400, api.TypeInvalidRequest, "weight is 0"},
		{"PUT", "/v1/sessions/s/updates/c?weight=-1", "x", 400, api.TypeInvalidRequest, "at least 1"},
		{"PUT", "/v1/sessions/s/updates/c?weight=abc", "x", 400, api.TypeInvalidRequest, "not an integer"},
		{"PUT", "/v1/sessions/s/updates/c?weight=1.5", "x", 400, api.TypeInvalidRequest, "not an integer"},
		{"PUT", "/v1/sessions/s/updates/c?weight=2199023255552", "x", 400, api.TypeInvalidRequest, "274877906943"},
		{"PUT", "/v1/sessions/s/updates/c?weight=274877906944", "x", 400, api.TypeInvalidRequest, "at most"},
		{"PUT", "/v1/sessions/s/updates/c?weight=99999999999999999999", "x", 400, api.TypeInvalidRequest, "out of range"},
		{"PUT", "/v1/sessions/s/updates/c?weight=1&weight=2", "x", 400, api.TypeInvalidRequest, "2 times"},
		{"PUT", good + "&bse=00", "x", 400, api.TypeInvalidRequest, `"bse"`},
		{"PUT", good + "&base=latest", "x", 400, api.TypeInvalidRequest, "resolve it once"},
		{"PUT", good + "&base=12", "x", 400, api.TypeInvalidRequest, "64 hex"},
		{"PUT", good + "&base=" + strings.Repeat("g", 64), "x", 400, api.TypeInvalidRequest, "64 hex"},
		{"PUT", good + "&id=", "x", 400, api.TypeInvalidRequest, "empty"},
		{"PUT", good + "&id=a%2Fb", "x", 400, api.TypeInvalidRequest, "slashes"},
		{"PUT", good + "&id=a%20b", "x", 400, api.TypeInvalidRequest, "spaces"},
		{"PUT", good + "&id=a%0Ab", "x", 400, api.TypeInvalidRequest, "printable"},
		{"PUT", good + "&id=" + long, "x", 400, api.TypeInvalidRequest, "300 bytes"},
		{"PUT", good + "&metric.=1", "x", 400, api.TypeInvalidRequest, "metric name is empty"},
		{"PUT", good + "&metric.a/b=1", "x", 400, api.TypeInvalidRequest, "metric"},
		{"PUT", good + "&metric.loss=NaN", "x", 400, api.TypeInvalidRequest, "finite"},
		{"PUT", good + "&metric.loss=1e999", "x", 400, api.TypeInvalidRequest, "finite"},
		{"PUT", good + "&metric.loss=low", "x", 400, api.TypeInvalidRequest, "finite"},
		{"PUT", good, "", 400, api.TypeUnreadableModel, "empty"},
		{"PUT", good, strings.Repeat("x", 1001), 413, api.TypeTooLarge, "1000 bytes"},
		{"PUT", "/v1/sessions/none/updates/c?weight=1", "x", 404, api.TypeUnknownSession, `"none"`},
		// Sessions.
		{"PUT", "/v1/sessions/new", "x", 415, api.TypeUnsupportedMedia, "multipart/form-data"},
		{"PUT", "/v1/sessions/new", "", 400, api.TypeUnreadableModel, "empty"},
		{"GET", "/v1/sessions/none", "", 404, api.TypeUnknownSession, `"none"`},
		{"POST", "/v1/sessions/none/close", "", 404, api.TypeUnknownSession, `"none"`},
		// Models.
		{"GET", "/v1/sessions/none/model", "", 404, api.TypeUnknownSession, ""},
		{"GET", "/v1/sessions/none/model?after=3&wait=1ms", "", 404, api.TypeUnknownSession, ""},
		{"GET", "/v1/sessions/s/model?format=pickle", "", 400, api.TypeInvalidRequest, "safetensors, npz"},
		{"GET", "/v1/sessions/s/model?after=x", "", 400, api.TypeInvalidRequest, "after"},
		{"GET", "/v1/sessions/s/model?after=latest", "", 400, api.TypeInvalidRequest, "after"},
		{"GET", "/v1/sessions/s/model?after=0&wait=301s", "", 400, api.TypeInvalidRequest, "5m"},
		{"GET", "/v1/sessions/s/model?after=0&wait=-1s", "", 400, api.TypeInvalidRequest, "wait"},
		{"GET", "/v1/sessions/s/model?after=0&wait=soon", "", 400, api.TypeInvalidRequest, "duration"},
		{"GET", "/v1/sessions/s/models/1", "", 404, api.TypeUnknownModel, "model 1"},
		{"GET", "/v1/sessions/s/models/-1", "", 400, api.TypeInvalidRequest, "neither"},
		{"GET", "/v1/sessions/s/models/" + strings.Repeat("0", 64), "", 404, api.TypeUnknownModel, "0000"},
		{"GET", "/v1/sessions/s/models/" + strings.Repeat("z", 64), "", 400, api.TypeInvalidRequest, "digest"},
		{"GET", "/v1/sessions/s/models/0?after=1", "", 400, api.TypeInvalidRequest, `"after"`},
		// Rounds.
		{"GET", "/v1/sessions/none/rounds", "", 404, api.TypeUnknownSession, ""},
		{"GET", "/v1/sessions/s/rounds?from=x", "", 400, api.TypeInvalidRequest, "from"},
		{"GET", "/v1/sessions/s/rounds?limit=1001", "", 400, api.TypeInvalidRequest, "1000"},
		{"GET", "/v1/sessions/s/rounds/9", "", 404, api.TypeUnknownRound, "round 9"},
		{"GET", "/v1/sessions/s/rounds/x", "", 400, api.TypeInvalidRequest, "round"},
		{"GET", "/v1/sessions/s/rounds/99999999999999999999", "", 400, api.TypeInvalidRequest, "round"},
	}
	for _, tt := range tests {
		t.Run(tt.method+" "+tt.path, func(t *testing.T) {
			var body io.Reader
			if tt.body != "" {
				body = strings.NewReader(tt.body)
			}
			resp := do(t, tt.method, url+tt.path, body)
			if resp.StatusCode != tt.status {
				t.Fatalf("status %d, want %d", resp.StatusCode, tt.status)
			}
			p := problem(t, resp)
			if !tt.kind.Is(p) {
				t.Errorf("type %s, want %s", p.Type, tt.kind)
			}
			if !strings.Contains(p.Detail, tt.says) {
				t.Errorf("detail %q does not say %q", p.Detail, tt.says)
			}
			if strings.Contains(p.Detail, "api: ") {
				t.Errorf("detail %q has a package's prefix", p.Detail)
			}
		})
	}
	if n := len(f.pushed()); n != 1 { // the one into no session
		t.Errorf("%d pushes reached the backend, want 1", n)
	}
}

func TestAccept(t *testing.T) {
	m := someModel(t, 4, 1)
	_, url := start(t, newFake().with("s", m), api.ServerOptions{})
	for accept, want := range map[string]string{
		"":                                      "application/x-safetensors",
		"*/*":                                   "application/x-safetensors",
		"application/x-npz":                     "application/x-npz",
		"application/zip, */*;q=0.1":            "application/x-npz",
		"application/x-npz;q=0.2, */*;q=0.9":    "application/x-safetensors",
		"application/json":                      "",
		"application/x-npz;q=0":                 "",
		"text/html, application/octet-stream":   "application/x-safetensors",
		"application/x-npz;q=nonsense;v=1, a/b": "application/x-npz",
	} {
		resp := do(t, "GET", url+"/v1/sessions/s/model", nil, "Accept", accept)
		if want == "" {
			if p := problem(t, resp); p.Status != http.StatusNotAcceptable {
				t.Errorf("Accept %q: status %d, want 406", accept, p.Status)
			}
			continue
		}
		if got := resp.Header.Get("Content-Type"); got != want {
			t.Errorf("Accept %q: %s, want %s", accept, got, want)
		}
	}
}

// TestBackendErrors checks what becomes of a backend's errors, and that no text of a stranger's goes out.
func TestBackendErrors(t *testing.T) {
	const secret = "/var/lib/fedmesh/log"
	tests := []struct {
		err    error
		status int
		kind   api.ProblemType
	}{
		{api.UpdateConflict("c", "1", "00", "other bytes"), 409, api.TypeUpdateConflict},
		{fmt.Errorf("mesh: push: %w", api.ClosedSession("s", "closed")), 409, api.TypeSessionClosed},
		{api.Unavailable("disk full", 0), 503, api.TypeUnavailable},
		{api.UnknownBase(strings.Repeat("0", 64), 0), 503, api.TypeUnknownBase},
		{api.InvalidValue("w", 3, "NaN", "2^24"), 422, api.TypeInvalidValue},
		{api.TooLarge(7), 413, api.TypeTooLarge},
		{fmt.Errorf("npz: %w", model.ErrFormat), 400, api.TypeUnreadableModel},
		{fmt.Errorf("model: %w", model.ErrLayout), 422, api.TypeWrongLayout},
		{fmt.Errorf("model: %w", model.ErrTooLarge), 413, api.TypeTooLarge},
		{context.DeadlineExceeded, 503, api.TypeUnavailable},
		{fmt.Errorf("mesh: %w", context.Canceled), 503, api.TypeUnavailable},
		{errors.New("open " + secret + ": permission denied"), 500, api.TypeInternal},
		{&api.Problem{Title: secret}, 500, api.TypeInternal}, // no status: not an answer
		{api.NewProblem(api.TypeInternal, 400, "x", "y").With("bad", make(chan int)), 400, api.TypeInternal},
	}
	var log logTo
	f := newFake().with("s", someModel(t, 4, 1))
	_, url := start(t, f, api.ServerOptions{Logger: zerolog.New(&log)})
	for _, tt := range tests {
		f.onPush = func(context.Context, api.PushRequest) (api.Receipt, error) { return api.Receipt{}, tt.err }
		p := problem(t, do(t, "PUT", url+"/v1/sessions/s/updates/c?weight=1", strings.NewReader("x")))
		if p.Status != tt.status || !tt.kind.Is(p) {
			t.Errorf("%v: %d %s, want %d %s", tt.err, p.Status, p.Type, tt.status, tt.kind)
		}
		if strings.Contains(p.Error(), secret) {
			t.Errorf("%v: the answer leaks: %v", tt.err, p)
		}
		if id, ok := strings.CutPrefix(p.Instance, "urn:fedmesh:request:"); p.Status == 500 && (!ok || !strings.Contains(log.String(), id)) {
			t.Errorf("%v: instance %q is not in the log", tt.err, p.Instance)
		}
	}
	if !strings.Contains(log.String(), secret) {
		t.Error("the log does not have the error")
	}
}

func TestPanic(t *testing.T) {
	var log logTo
	f := newFake().with("s", someModel(t, 4, 1))
	f.onPush = func(context.Context, api.PushRequest) (api.Receipt, error) { panic("broken invariant") }
	f.onModel = func(m api.Model) (api.Model, error) {
		m.Layout = nil // serving npz panics
		return m, nil
	}
	_, url := start(t, f, api.ServerOptions{Logger: zerolog.New(&log)})
	p := problem(t, do(t, "PUT", url+"/v1/sessions/s/updates/c?weight=1", strings.NewReader("x")))
	if p.Status != 500 || strings.Contains(p.Error(), "invariant") {
		t.Errorf("got %v", p)
	}
	p = problem(t, do(t, "GET", url+"/v1/sessions/s/model?format=npz", nil))
	if p.Status != 500 {
		t.Errorf("got %v", p)
	}
	for _, want := range []string{"broken invariant", "server_test.go"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log does not have %q", want)
		}
	}
	if resp := do(t, "GET", url+"/healthz", nil); resp.StatusCode != 200 {
		t.Errorf("afterwards, status %d", resp.StatusCode)
	}
}

func TestNotReady(t *testing.T) {
	f := newFake().with("s", someModel(t, 4, 1))
	f.ready = errors.New("api: catching up")
	_, url := start(t, f, api.ServerOptions{})
	for path, want := range map[string]int{
		"/readyz": 503, "/v1/sessions": 503, "/v1/sessions/s": 503, "/v1/sessions/s/model": 503, "/v1/sessions/s/rounds": 503,
		"/healthz": 200, "/v1/mesh": 200, "/": 200, "/openapi.json": 200,
	} {
		resp := do(t, "GET", url+path, nil)
		if resp.StatusCode != want {
			t.Errorf("%s: status %d, want %d", path, resp.StatusCode, want)
		}
		if want == 503 {
			if p := problem(t, resp); !api.TypeNotReady.Is(p) || p.Detail != "catching up" {
				t.Errorf("%s: %v", path, p)
			}
		}
	}
	p := problem(t, do(t, "PUT", url+"/v1/sessions/s/updates/c?weight=1", strings.NewReader("x")))
	if p.Status != 503 || len(f.pushed()) != 0 {
		t.Errorf("push: %v", p)
	}
	f.mu.Lock()
	f.ready = nil
	f.mu.Unlock()
	if resp := do(t, "GET", url+"/readyz", nil); resp.StatusCode != 200 {
		t.Errorf("ready: status %d", resp.StatusCode)
	}
}

func TestCrossOrigin(t *testing.T) {
	f := newFake()
	_, url := start(t, f, api.ServerOptions{})
	p := problem(t, do(t, "POST", url+"/v1/leave", nil, "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"))
	if p.Status != 403 || f.left {
		t.Fatalf("got %v, left %v", p, f.left)
	}
	if resp := do(t, "POST", url+"/v1/leave", nil); resp.StatusCode != 204 || !f.left {
		t.Fatalf("status %d, left %v", resp.StatusCode, f.left)
	}
	if p := problem(t, do(t, "POST", url+"/v1/leave", nil)); !api.TypeLastMember.Is(p) {
		t.Fatalf("got %v", p)
	}
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	f := newFake().with("s", someModel(t, 4, 1))
	_, url := start(t, f, api.ServerOptions{Registerer: reg, Gatherer: reg})
	api.NewServer(f, api.ServerOptions{Registerer: reg}).Close() // a second one shares them
	_ = problem(t, do(t, "GET", url+"/v1/sessions/none", nil))
	_ = problem(t, do(t, "BREW", url+"/v1/sessions/none", nil))
	_ = problem(t, do(t, "GET", url+"/random", nil))
	if resp := do(t, "PUT", url+"/v1/sessions/s/updates/c?weight=1", strings.NewReader("12345")); resp.StatusCode != 201 {
		t.Fatalf("status %d", resp.StatusCode)
	}
	b, err := io.ReadAll(do(t, "GET", url+"/metrics", nil).Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`fedmesh_api_request_duration_seconds_count{code="404",method="GET",route="/v1/sessions/{session}"} 1`,
		`fedmesh_api_request_duration_seconds_count{code="405",method="other",route="/v1/sessions/{session}"} 1`,
		`fedmesh_api_request_duration_seconds_count{code="404",method="other",route="unknown"} 1`,
		`fedmesh_api_received_bytes_total{route="/v1/sessions/{session}/updates/{combiner}"} 5`,
		`fedmesh_api_requests_in_flight 1`,
	} {
		if !strings.Contains(string(b), want) {
			t.Errorf("no %s", want)
		}
	}
}

// TestOpenAPI compares the description with the routes, both ways, and its problem types with ours.
func TestOpenAPI(t *testing.T) {
	srv, url := start(t, newFake(), api.ServerOptions{})
	var doc struct {
		OpenAPI    string
		Paths      map[string]map[string]json.RawMessage
		Components struct {
			Schemas map[string]json.RawMessage
		}
	}
	if err := json.NewDecoder(do(t, "GET", url+"/openapi.json", nil).Body).Decode(&doc); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(doc.OpenAPI, "3.1") {
		t.Errorf("version %q", doc.OpenAPI)
	}
	served := map[string]bool{}
	for _, r := range srv.RouteList() {
		path := strings.TrimSuffix(r[1], "{$}")
		served[strings.ToLower(r[0])+" "+path] = true
		if doc.Paths[path][strings.ToLower(r[0])] == nil {
			t.Errorf("%s %s is served and not described", r[0], path)
		}
	}
	for path, ops := range doc.Paths {
		for method := range ops {
			if method != "parameters" && !served[method+" "+path] {
				t.Errorf("%s %s is described and not served", method, path)
			}
		}
	}
	// Every reference leads somewhere.
	var root any
	if err := json.Unmarshal(api.OpenAPI(), &root); err != nil {
		t.Fatal(err)
	}
	refs := 0
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if ref, ok := v["$ref"].(string); ok {
				refs++
				at := root
				for part := range strings.SplitSeq(strings.TrimPrefix(ref, "#/"), "/") {
					m, _ := at.(map[string]any)
					at = m[part]
				}
				if at == nil {
					t.Errorf("%s leads nowhere", ref)
				}
			}
			for _, w := range v {
				walk(w)
			}
		case []any:
			for _, w := range v {
				walk(w)
			}
		}
	}
	walk(root)
	if refs < 50 {
		t.Errorf("only %d references seen", refs)
	}
	for _, kind := range []api.ProblemType{
		api.TypeInvalidRequest, api.TypeUnreadableModel, api.TypeUnauthorized, api.TypeForbidden, api.TypeUnknownRoute, api.TypeUnknownSession,
		api.TypeUnknownModel, api.TypeUnknownRound, api.TypeMethodNotAllowed, api.TypeNotAcceptable, api.TypeBodyTimeout, api.TypeSessionConflict,
		api.TypeSessionClosed, api.TypeUpdateConflict, api.TypeLastMember, api.TypeTooLarge, api.TypeUnsupportedMedia, api.TypeWrongLayout,
		api.TypeInvalidValue, api.TypeInternal, api.TypeUnavailable, api.TypeNotReady, api.TypeUnknownBase, api.TypeStorageFull,
		api.TypeUnknownPeer, api.TypeAmbiguousPeer, api.TypePeerAlive, api.TypeTooFewRemain, api.TypeSilentPeers, api.TypeForgettingInWay,
		api.TypeModelGone, api.TypeBaseGone,
	} {
		if !strings.Contains(string(doc.Components.Schemas["Problem"]), `"urn:fedmesh:problem:`+string(kind)+`"`) {
			t.Errorf("problem type %s is not described", kind)
		}
	}
}
