package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fedmesh/fedmesh/mesh/api"
)

func TestForgetRoute(t *testing.T) {
	f := newFake()
	_, url := start(t, f, api.ServerOptions{})
	for _, done := range []bool{false, true} {
		f.onForget = func([]string) (api.Forgetting, error) {
			return api.Forgetting{Peers: []string{"c", "d"}, Done: done}, nil
		}
		resp := do(t, "POST", url+"/v1/forget", strings.NewReader(`{"peers":["d","c"]}`), "Content-Type", "application/json")
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		status, want := 202, `{"peers":["c","d"],"logs":[],"done":false,"waiting_for":[]}`
		if done {
			status, want = 200, strings.Replace(want, "false", "true", 1)
		}
		if resp.StatusCode != status || strings.TrimSpace(string(body)) != want {
			t.Errorf("%d %s", resp.StatusCode, body)
		}
	}
	if len(f.forgets) != 2 || !slices.Equal(f.forgets[0], []string{"d", "c"}) {
		t.Errorf("the backend was asked for %v", f.forgets)
	}
	for _, c := range []struct {
		path, body string
		status     int
		kind       api.ProblemType
		says       string
	}{
		{"", "", 400, api.TypeInvalidRequest, "body"},
		{"", "c", 400, api.TypeInvalidRequest, "peers"},
		{"", `["c"]`, 400, api.TypeInvalidRequest, "peers"},
		{"", `{"peers":["c"]} {}`, 400, api.TypeInvalidRequest, "follows"},
		{"", `{"peer":["c"]}`, 400, api.TypeInvalidRequest, "peer"},
		{"", `{"peers":"c"}`, 400, api.TypeInvalidRequest, "peers"},
		{"", `{}`, 400, api.TypeInvalidRequest, "0 peers"},
		{"", `{"peers":[]}`, 400, api.TypeInvalidRequest, "0 peers"},
		{"", `{"peers":["c",""]}`, 400, api.TypeInvalidRequest, "peer"},
		{"", `{"peers":["../c"]}`, 400, api.TypeInvalidRequest, "peer"},
		{"", `{"peers":[` + strings.Repeat(`"c",`, 1000) + `"c"]}`, 400, api.TypeInvalidRequest, "1001 peers"},
		{"", strings.Repeat(" ", 300<<10), 413, api.TypeTooLarge, ""},
		{"?peers=c", `{"peers":["c"]}`, 400, api.TypeInvalidRequest, "peers"},
	} {
		p := problem(t, do(t, "POST", url+"/v1/forget"+c.path, strings.NewReader(c.body)))
		if p.Status != c.status || !c.kind.Is(p) || !strings.Contains(p.Detail, c.says) {
			t.Errorf("%.40s: %v", c.body, p)
		}
	}
	if p := problem(t, do(t, "POST", url+"/v1/forget", strings.NewReader(`{"peers":["c"]}`), "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site")); p.Status != 403 {
		t.Errorf("from another site: %v", p)
	}
	if len(f.forgets) != 2 {
		t.Errorf("the backend was asked for %v", f.forgets[2:])
	}
	for _, p := range []*api.Problem{
		api.UnknownPeer("c", "never heard of"), api.AmbiguousPeer("c", []string{"00", "11"}), api.PeerLives("c", "stop it"),
		api.TooFewRemain("s", 3, 2, 4), api.SilentPeers([]string{"d"}), api.ForgettingInTheWay([]string{"d"}, []string{"b"}, "wait"),
	} {
		f.onForget = func([]string) (api.Forgetting, error) { return api.Forgetting{}, p }
		got := problem(t, do(t, "POST", url+"/v1/forget", strings.NewReader(`{"peers":["c"]}`)))
		if got.Type != p.Type || got.Status != p.Status || got.Detail != p.Detail {
			t.Errorf("got %v, want %v", got, p)
		}
		if b, err := json.Marshal(p); err != nil || strings.Contains(string(b), "null") {
			t.Errorf("%s, %v", b, err)
		}
	}
	f.ready = errors.New("starting")
	if p := problem(t, do(t, "POST", url+"/v1/forget", strings.NewReader(`{"peers":["c"]}`))); !api.TypeNotReady.Is(p) {
		t.Errorf("not ready: %v", p)
	}
}

// The client asks the next peer when one has not heard of a name, and takes a refusal for the answer.
func TestForgetClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t)
		f, g := newFake(), newFake()
		m.peer("a", f)
		m.peer("b", g)
		c := m.client(api.ClientOptions{Passes: 1}, "a", "b")
		ctx := t.Context()
		f.onForget = func([]string) (api.Forgetting, error) {
			return api.Forgetting{}, api.UnknownPeer("c", "never heard of")
		}
		if got, err := c.Forget(ctx, []string{"c"}); err != nil || !got.Done || len(g.forgets) != 1 {
			t.Errorf("%+v, %v", got, err)
		}
		f.onForget = func([]string) (api.Forgetting, error) { return api.Forgetting{}, api.PeerLives("c", "stop it") }
		if _, err := c.Forget(ctx, []string{"c"}); !api.TypePeerAlive.Is(err) || len(g.forgets) != 1 {
			t.Errorf("%v", err)
		}
		for _, bad := range [][]string{nil, {""}, {"a b"}} {
			if _, err := c.Forget(ctx, bad); !api.TypeInvalidRequest.Is(err) {
				t.Errorf("%q: %v", bad, err)
			}
		}
	})
}

func TestAwaitForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t)
		f := newFake()
		m.peer("a", f)
		c := m.client(api.ClientOptions{Passes: 1}, "a")
		ctx := t.Context()
		asked := 0
		states := []api.PeerInfo{ // as they follow each other; the last stays
			{Name: "c", Log: "cc", State: api.PeerDead},
			{Name: "c", Log: "cc", State: api.PeerForgetting, WaitingFor: []string{"a", "b"}},
			{Name: "c", Log: "cc", State: api.PeerForgetting, WaitingFor: []string{"b"}},
			{Name: "c", Log: "cc", State: api.PeerForgotten},
		}
		f.onMesh = func() api.MeshInfo {
			asked++
			return api.MeshInfo{Self: "a", Peers: []api.PeerInfo{{Name: "c", Log: "11", State: api.PeerAlive}, states[min(asked, len(states))-1]}}
		}
		var told []string
		first := api.Forgetting{Peers: []string{"c"}, Logs: []string{"cc"}, WaitingFor: []string{"a", "b"}}
		got, err := c.AwaitForgotten(ctx, first, func(now api.Forgetting) { told = append(told, strings.Join(now.WaitingFor, " ")) })
		if err != nil || !got.Done || asked != len(states) || !slices.Equal(told, []string{"b", ""}) {
			t.Errorf("%+v, %v after %d questions; told %q", got, err, asked, told)
		}
		asked, states = 0, states[1:3]
		short, cancel := context.WithTimeout(ctx, 700*time.Millisecond)
		defer cancel()
		if got, err := c.AwaitForgotten(short, first, nil); !errors.Is(err, context.DeadlineExceeded) || got.Done || !slices.Equal(got.WaitingFor, []string{"b"}) {
			t.Errorf("in no time: %+v, %v", got, err)
		}
		asked, states = 0, []api.PeerInfo{{Name: "c", Log: "cc", State: api.PeerAlive}}
		if _, err := c.AwaitForgotten(ctx, first, nil); !api.TypePeerAlive.Is(err) {
			t.Errorf("it came back: %v", err)
		}
		if got, err := c.AwaitForgotten(ctx, api.Forgetting{Done: true}, nil); err != nil || !got.Done {
			t.Errorf("done already: %+v, %v", got, err)
		}
	})
}
