package api_test

import (
	"io"
	"strings"
	"testing"

	"github.com/fedmesh/fedmesh/mesh/api"
)

func TestPage(t *testing.T) {
	_, url := start(t, newFake(), api.ServerOptions{})
	resp := do(t, "GET", url+"/", nil)
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != 200 || !strings.Contains(string(b), "</html>") {
		t.Errorf("status %d, page %.80q", resp.StatusCode, b)
	}
	if !strings.Contains(resp.Header.Get("Content-Security-Policy"), "default-src 'none'") {
		t.Error("no content security policy")
	}
	if resp := do(t, "GET", url+"/ui/app.js", nil); resp.StatusCode != 200 {
		t.Errorf("status %d for the page's script", resp.StatusCode)
	}
	if resp := do(t, "GET", url+"/ui/other.js", nil); resp.StatusCode != 404 || resp.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("status %d, %s for what is not there", resp.StatusCode, resp.Header.Get("Content-Type"))
	}
}

// TestRoundsInBrief lists rounds without their updates.
func TestRoundsInBrief(t *testing.T) {
	_, url := start(t, newFake().with("s", someModel(t, 4, 1)), api.ServerOptions{})
	for query, want := range map[string]string{"": `"combiner":"c"`, "?updates=true": `"combiner":"c"`, "?updates=false": `"updates":[]`} {
		b, err := io.ReadAll(do(t, "GET", url+"/v1/sessions/s/rounds"+query, nil).Body)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(b), want) {
			t.Errorf("rounds%s: no %s in %s", query, want, b)
		}
	}
	if resp := do(t, "GET", url+"/v1/sessions/s/rounds?updates=no", nil); resp.StatusCode != 400 {
		t.Errorf("status %d for updates=no", resp.StatusCode)
	}
}
