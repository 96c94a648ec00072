package api_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"

	"pgregory.net/rapid"

	"github.com/fedmesh/fedmesh/mesh/api"
)

func TestProblemJSON(t *testing.T) {
	p := api.InvalidValue("layer.0", 12, "NaN", "2^24").With("status", "ignored").With("type", "ignored")
	b, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"detail":"tensor \"layer.0\", element 12 is NaN; values must be finite and smaller in magnitude than 2^24","index":12,"limit":"2^24","status":422,"tensor":"layer.0","title":"Invalid value","type":"urn:fedmesh:problem:invalid-value","value":"NaN"}`
	if string(b) != want {
		t.Errorf("got  %s\nwant %s", b, want)
	}
	var back api.Problem
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	p.Extra["index"] = float64(12)
	if !reflect.DeepEqual(&back, p) {
		t.Errorf("got %+v, want %+v", &back, p)
	}
	if err := json.Unmarshal([]byte(`{"type": 7, "title": [], "status": "x", "detail": "d"}`), &back); err != nil || back.Type != "about:blank" || back.Detail != "d" {
		t.Errorf("wrong types: %+v, %v", back, err)
	}
}

func TestRetryAfter(t *testing.T) {
	for header, want := range map[string]time.Duration{
		"": 0, "3": 3 * time.Second, "-1": 0, "soon": 0, "99999999999999": 0, "Wed, 21 Oct 2026 07:28:00 GMT": 0,
	} {
		resp := &http.Response{StatusCode: 503, Header: http.Header{"Retry-After": {header}}, Body: io.NopCloser(strings.NewReader(""))}
		if got := api.ReadProblem(resp).RetryAfter; got != want {
			t.Errorf("%q: %v, want %v", header, got, want)
		}
	}
}

func TestNames(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		good := rapid.StringMatching(`[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}`).Draw(t, "good")
		if err := api.CheckName("session", good); err != nil {
			t.Fatalf("%q: %v", good, err)
		}
		free := rapid.String().Draw(t, "free")
		ok := len(free) > 0 && len(free) <= 128 && free[0] != '.' &&
			!strings.ContainsFunc(free, func(r rune) bool {
				return r > 127 || !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("._-", r)
			})
		if err := api.CheckName("session", free); (err == nil) != ok {
			t.Fatalf("%q: %v", free, err)
		}
		if err := api.CheckID(free); err == nil && (free == "" || len(free) > 128 || strings.ContainsAny(free, "/\\ \n\x7f")) {
			t.Fatalf("id %q was taken", free)
		}
	})
}

func TestConfigRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := api.SessionConfig{
			Strategy:        rapid.StringMatching(`[a-z]{1,10}`).Draw(t, "strategy"),
			MinCombiners:    rapid.IntRange(-1, 5).Draw(t, "min"),
			TargetCombiners: rapid.IntRange(-1, 5).Draw(t, "target"),
			Copies:          rapid.IntRange(0, 65).Draw(t, "copies"),
			RoundTimeout:    api.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "round")),
			SettleTimeout:   api.Duration(rapid.Int64Range(-1, int64(time.Hour)).Draw(t, "settle")),
			LostAfter:       api.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "lost")),
		}
		b, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		got, err := api.ParseSessionConfig(bytes.NewReader(b))
		if invalid := c.Validate(); (err == nil) != (invalid == nil) || !reflect.DeepEqual(got, c) {
			t.Fatalf("%s: %+v, %v; validate: %v", b, got, err, invalid)
		}
	})
}

// FuzzPushParams: whatever the query, a push is refused with a 400 or is within all limits.
func FuzzPushParams(f *testing.F) {
	f.Add("s", "weight=1&base=&id=a&metric.x=0.5")
	f.Add("..", "weight=-9223372036854775808")
	f.Add("a/b", "weight=1;id=2&%zz")
	f.Fuzz(func(t *testing.T, name, rawQuery string) {
		r := httptest.NewRequest(http.MethodPut, "/", strings.NewReader("x"))
		r.URL.RawQuery = rawQuery
		r.SetPathValue("session", name)
		r.SetPathValue("combiner", name)
		req, err := api.PushParams(r)
		if err != nil {
			if !api.TypeInvalidRequest.Is(err) {
				t.Fatalf("%v", err)
			}
			return
		}
		if req.Weight < 1 || req.Weight > api.MaxWeight || len(req.Base) != 0 && len(req.Base) != 64 || len(req.Metrics) > 64 ||
			api.CheckName("session", req.Session) != nil || req.ID != "" && api.CheckID(req.ID) != nil {
			t.Fatalf("%+v", req)
		}
		for k, v := range req.Metrics {
			if api.CheckName("metric", k) != nil || v != v || v-v != 0 {
				t.Fatalf("metric %q = %v", k, v)
			}
		}
	})
}

// FuzzProblem: whatever a peer answers, its problem is one, has the answer's status and prints on one clean line.
func FuzzProblem(f *testing.F) {
	f.Add("application/problem+json", `{"type":"urn:fedmesh:problem:internal","title":"x","status":500,"limit":3}`, 503)
	f.Add("text/html", "<html>\x1b[2J", 502)
	f.Add("application/problem+json; charset=x", `[null]`, 400)
	f.Fuzz(func(t *testing.T, kind, body string, status int) {
		p := api.ReadProblem(&http.Response{StatusCode: status, Header: http.Header{"Content-Type": {kind}}, Body: io.NopCloser(strings.NewReader(body))})
		if p.Status != status {
			t.Fatalf("status %d", p.Status)
		}
		if strings.ContainsFunc(p.Error(), unicode.IsControl) {
			t.Fatalf("%q", p.Error())
		}
		if _, err := json.Marshal(p); err != nil {
			t.Fatal(err)
		}
	})
}
