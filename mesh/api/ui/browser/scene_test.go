package browser_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/api/ui"
)

// scene is an API of made-up answers behind the real page.
type scene struct {
	url string

	mu       sync.Mutex
	mesh     api.MeshInfo
	sessions []api.SessionInfo
	rounds   map[string]func(n uint64) api.RoundInfo // by session
	token    string                                  // asked for, unless empty
	streams  map[chan api.Event]bool
	seq      uint64
	asked    map[string]int           // requests by path
	broken   bool                     // answers are cut off, streams are not
	held     map[string]chan struct{} // by path: an answer that is made meanwhile arrives only once it is closed
}

func stage(t *testing.T, s *scene) *scene {
	t.Helper()
	s.streams, s.asked = map[chan api.Event]bool{}, map[string]int{}
	mux := http.NewServeMux()
	mux.Handle("GET /", ui.Handler())
	mux.HandleFunc("POST /v1/login", s.login)
	mux.HandleFunc("DELETE /v1/login", func(w http.ResponseWriter, _ *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "token", HttpOnly: true, MaxAge: -1})
	})
	answer := func(pattern string, f func(r *http.Request) any) {
		mux.HandleFunc("GET "+pattern, func(w http.ResponseWriter, r *http.Request) {
			var held chan struct{}
			defer func() {
				if held != nil {
					<-held
				}
			}()
			s.mu.Lock()
			defer s.mu.Unlock()
			s.asked[r.URL.Path]++
			held = s.held[r.URL.Path]
			if s.broken {
				panic(http.ErrAbortHandler)
			}
			if !s.allowed(w, r) {
				return
			}
			v := f(r)
			if v == nil {
				http.NotFound(w, r)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(v)
		})
	}
	answer("/v1/login", func(*http.Request) any {
		if s.token == "" {
			return map[string]any{"required": false}
		}
		return map[string]any{"required": true, "name": "wall display", "role": "reader"}
	})
	answer("/v1/mesh", func(*http.Request) any { return s.mesh })
	answer("/v1/sessions", func(*http.Request) any { return map[string]any{"sessions": append([]api.SessionInfo{}, s.sessions...)} })
	answer("/v1/sessions/{session}/rounds", s.list)
	answer("/v1/sessions/{session}/rounds/{round}", func(r *http.Request) any {
		n, _ := strconv.ParseUint(r.PathValue("round"), 10, 64)
		if f := s.rounds[r.PathValue("session")]; f != nil && n > 0 {
			return f(n)
		}
		return nil
	})
	mux.HandleFunc("GET /v1/events", s.events)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections)
	s.url = server.URL
	return s
}

func (s *scene) allowed(w http.ResponseWriter, r *http.Request) bool {
	if c, err := r.Cookie("token"); s.token == "" || err == nil && c.Value == s.token {
		return true
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(http.StatusUnauthorized)
	_, _ = w.Write([]byte(`{"type":"urn:fedmesh:problem:unauthorized","title":"Unauthorized","status":401}`))
	return false
}

func (s *scene) login(w http.ResponseWriter, r *http.Request) {
	var body struct{ Token string }
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil || body.Token != s.token {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	http.SetCookie(w, &http.Cookie{Name: "token", Value: body.Token, HttpOnly: true, SameSite: http.SameSiteStrictMode})
	w.WriteHeader(http.StatusNoContent)
}

func (s *scene) list(r *http.Request) any {
	f := s.rounds[r.PathValue("session")]
	var last uint64
	for _, i := range s.sessions {
		if i.Name == r.PathValue("session") {
			last = i.Round
		}
	}
	from, _ := strconv.ParseUint(r.URL.Query().Get("from"), 10, 64)
	limit, _ := strconv.ParseUint(r.URL.Query().Get("limit"), 10, 64)
	out := []api.RoundInfo{}
	for n := from; f != nil && n <= last && n < from+limit; n++ {
		info := f(n)
		info.Updates = nil
		out = append(out, info)
	}
	return map[string]any{"rounds": out}
}

func (s *scene) events(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	if !s.allowed(w, r) {
		s.mu.Unlock()
		return
	}
	ch := make(chan api.Event, 1000)
	s.streams[ch] = true
	s.mu.Unlock()
	w.Header().Set("Content-Type", "text/event-stream")
	_, _ = fmt.Fprint(w, ": hello\n\n")
	_ = http.NewResponseController(w).Flush()
	for {
		select {
		case <-r.Context().Done():
			return
		case e := <-ch:
			b, _ := json.Marshal(e)
			_, _ = fmt.Fprintf(w, "id: %d\nevent: %s\ndata: %s\n\n", e.Seq, e.Type, b)
			_ = http.NewResponseController(w).Flush()
		}
	}
}

// times is how often a path was asked for.
func (s *scene) times(path string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[path]
}

// more waits until a path is asked for once more.
func (s *scene) more(t *testing.T, path string) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(ample)
	for before := s.times(path); s.times(path) == before; {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s is not asked for", path)
		}
	}
}

// change changes what is answered and tells of it.
func (s *scene) change(f func(), events ...api.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	for _, e := range events {
		s.seq++
		e.Seq, e.Time = s.seq, time.Now().UTC()
		for ch := range s.streams {
			ch <- e
		}
	}
}

// digest makes up the digest of a model.
func digest(v ...any) string {
	const seed = 14695981039346656037
	h := uint64(seed)
	out := ""
	for range 4 {
		for _, c := range []byte(fmt.Sprint(v...)) {
			h = (h ^ uint64(c)) * 1099511628211
		}
		out += fmt.Sprintf("%016x", h*0x9e3779b97f4a7c15)
	}
	return out
}

// at has all peers serve the model of a session's last round.
func at(m api.MeshInfo, s api.SessionInfo) api.MeshInfo {
	for i := range m.Peers {
		m.Peers[i].Rounds[s.Name] = api.RoundModel{Round: s.ModelRound, Model: s.Model}
	}
	return m
}

func peers(names ...string) api.MeshInfo {
	m := api.MeshInfo{Self: names[0], Mesh: "hospital-north", Agreed: true, Disk: 412_800_000}
	for i, n := range names {
		m.Peers = append(m.Peers, api.PeerInfo{
			Name: n, Log: digest("log", n)[:32], State: api.PeerAlive, API: fmt.Sprintf("127.0.0.1:%d", 18080+i),
			Rounds: map[string]api.RoundModel{}, Held: 4, HeldBytes: 25_600_000,
		})
	}
	return m
}

func session(name string, round uint64, target int) api.SessionInfo {
	c := api.DefaultSessionConfig()
	c.TargetCombiners = target
	return api.SessionInfo{
		Name: name, Key: digest("key", name), Config: c, Seed: digest("seed"), State: api.SessionOpen,
		Round: round, Model: digest(name, round-1), ModelRound: round - 1, Members: []string{"a"},
	}
}

// steady gives the rounds of a session in which all goes well; the last few are settled only while one peer is away.
func steady(name string, open uint64, who []string, combiners, in int, away string) func(n uint64) api.RoundInfo {
	return func(n uint64) api.RoundInfo {
		info := api.RoundInfo{Round: n, State: api.RoundFinal, Model: digest(name, n), Inputs: digest("in", name, n), Computed: map[string]string{}, Metrics: map[string]float64{}, Versions: 1}
		count := combiners
		if n == open {
			opened := time.Now().Add(-17 * time.Second)
			info.State, info.Model, info.Inputs, info.Versions, info.Opened = api.RoundOpen, "", "", 0, &opened
			info.WaitingFor = who
			count = in
		}
		for i := range count {
			u := api.UpdateInfo{
				Combiner: fmt.Sprintf("site-%02d", i+1), ID: fmt.Sprintf("%d.%s", n-1, digest(name, n-1)[:12]), Digest: digest("u", i, n),
				Weight: int64(600 + 37*((i*7+int(n))%11)), Base: digest(name, n-1), BaseRound: n - 1, Copies: []string{who[i%len(who)], who[(i+1)%len(who)]},
			}
			info.Updates = append(info.Updates, u)
			info.Weight += u.Weight
		}
		info.Combiners = count
		if n == open {
			return info
		}
		x := float64(n)
		wobble := float64(n*n*7%13) / 13
		info.Metrics["loss"] = 2.1/(1+x/6) + 0.08*wobble
		info.Metrics["accuracy"] = 0.97 - 0.8/(1+x/4) + 0.01*wobble
		for _, p := range who {
			if p == away && n+4 >= open {
				info.WaitingFor, info.State = []string{p}, api.RoundSettled
				continue
			}
			info.Computed[p] = info.Model
			info.Sealed = append(info.Sealed, p)
		}
		return info
	}
}
