package browser_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fedmesh/fedmesh/mesh/api"
)

const live = `document.querySelector("#link").dataset.state === "live"`

type roundsOf = map[string]func(uint64) api.RoundInfo

func well(t *testing.T) *scene {
	who := []string{"a", "b", "c"}
	m := at(peers(who...), session("mnist", 24, 6))
	return stage(t, &scene{
		mesh: m, sessions: []api.SessionInfo{session("mnist", 24, 6), session("tumour-segmentation", 3, 0)},
		rounds: roundsOf{"mnist": steady("mnist", 24, who, 6, 4, ""), "tumour-segmentation": steady("tumour-segmentation", 3, who, 3, 0, "")},
	})
}

func TestAllIsWell(t *testing.T) {
	s := well(t)
	b := open(t)
	b.look(s.url, "light")
	b.until("the page is live", live+` && document.querySelectorAll(".column.final").length === 23 && document.querySelectorAll("#combiners .chip.out").length === 2`)
	if got := b.text("#verdict .verdict-title"); got != "All is well" {
		t.Errorf("the verdict is %q", got)
	}
	if n := eval[int](b, `document.querySelectorAll(".column.final .block").length`); n != 23 {
		t.Errorf("%d rounds are one block, want 23", n)
	}
	if got := eval[string](b, `document.querySelector('[data-round="23"]').getAttribute("aria-label")`); got != "Round 23, final, all 3 peers agree, model "+digest("mnist", 23)[:8] {
		t.Errorf("round 23 is called %q", got)
	}
	if got := b.text("#open-count"); got != "4 of 6 combiners" {
		t.Errorf("in the open round are %q", got)
	}

	// Events and what they change arrive without anybody loading anything anew.
	eval[bool](b, `window.same = true`)
	event := func(kind, state, peer string) api.Event {
		return api.Event{Type: kind, Session: "mnist", Round: 24, Peer: peer, State: state, Digest: digest("mnist", 24)}
	}
	held := api.Event{Type: api.EventUpdate, Session: "mnist", Combiner: "site-05", ID: "1", State: "held", Peer: "a"}
	heldToo := held
	heldToo.Peer = "b"
	s.change(func() { s.rounds["mnist"] = steady("mnist", 24, []string{"a", "b", "c"}, 6, 5, "") }, held, heldToo)
	b.until("the fifth combiner", `document.querySelector("#open-count").textContent === "5 of 6 combiners"`)
	s.change(func() {
		s.rounds["mnist"] = steady("mnist", 25, []string{"a", "b", "c"}, 6, 0, "")
		s.sessions[0] = session("mnist", 25, 6)
	}, event("round", "sealed", "a"), event("round", "sealed", "b"), event("round", "sealed", "c"), event("round", "settled", "a"), event("round", "final", ""))
	b.until("the next round", `document.querySelector("#open-title").textContent === "Round 25" && document.querySelectorAll(".column.final").length === 24`)
	b.until("four lines of events", `document.querySelectorAll("#events tr").length === 4`)
	if got := b.text("#events"); !contains(got, "sealed by a, b and c", "held by a and b", "Round 24 of mnist is final") {
		t.Errorf("the events are %q", got)
	}
	s.change(func() { s.seq += 7 }, api.Event{Type: api.EventPeer, Peer: "c", State: "alive"})
	b.until("what was missed", `document.querySelector("#events").innerText.includes("7 events happened while this page was not listening")`)
	eval[bool](b, `(() => { const k = document.querySelector("#event-kind"); k.value = "update"; k.dispatchEvent(new Event("change")); return true })()`)
	b.until("updates alone", `document.querySelectorAll("#events tr").length === 1`)
	eval[bool](b, `(() => { const k = document.querySelector("#event-kind"); k.value = "all"; k.dispatchEvent(new Event("change")); return true })()`)

	// The fragment keeps what was chosen.
	eval[bool](b, `(() => { document.querySelector('[data-round="20"]').click(); return true })()`)
	b.until("round 20", `document.querySelector("#round-title").textContent === "Round 20" && location.hash === "#/mnist/20"`)
	if !eval[bool](b, `window.same === true`) {
		t.Error("the page was loaded anew")
	}
	b.look(s.url+"/#/tumour-segmentation", "light")
	b.until("the other session", `document.querySelector("#session-name").textContent === "tumour-segmentation"`)
	b.look(s.url+"/#/mnist", "light")
	b.until("the first", live+` && document.querySelectorAll(".column.final").length === 24 && document.querySelector("#plots canvas")`)
	b.accessible("all is well")
	b.pictures("well")
	b.clean()
}

func TestKeyboard(t *testing.T) {
	s := well(t)
	b := open(t)
	b.look(s.url, "light")
	b.until("the page is live", live+` && document.querySelectorAll(".column.final").length === 23`)
	reached := map[string]bool{}
	for range 60 {
		b.key("Tab")
		id := eval[string](b, `(() => { const a = document.activeElement; return a.id || a.dataset.round && "round" || a.className || a.tagName })()`)
		reached[id] = true
		if !eval[bool](b, `document.activeElement === document.body || parseFloat(getComputedStyle(document.activeElement).outlineWidth) >= 1`) {
			t.Errorf("%s has the focus and does not show it", id)
		}
	}
	for _, id := range []string{"skip", "session", "round", "goto-round", "span", "event-kind", "event-here", "event-text", "events-box"} {
		if !reached[id] {
			t.Errorf("the keyboard does not reach %s; it reaches %v", id, reached)
		}
	}
	// Of the rounds one is in the order of tabs; arrows go to the others.
	eval[bool](b, `(() => { document.querySelector('.column[tabindex="0"]').focus(); return true })()`)
	b.key("ArrowLeft", "ArrowLeft", "Enter")
	b.until("round 22 by keys alone", `document.querySelector("#round-title").textContent === "Round 22" && document.activeElement.dataset.round === "22"`)
	b.key("Home")
	b.until("the first round", `document.activeElement.dataset.round === "1"`)
	eval[bool](b, `(() => { document.querySelector("#round-close").focus(); return true })()`)
	b.key("Enter")
	b.until("the round is closed", `document.querySelector("#round").hidden && document.activeElement.dataset.round === "22"`)
	b.clean()
}

func TestPeerAway(t *testing.T) {
	who := []string{"a", "b", "c"}
	m := at(peers(who...), session("mnist", 24, 6))
	m.Peers[2].State = api.PeerDead
	m.Peers[2].Rounds["mnist"] = api.RoundModel{Round: 19, Model: digest("mnist", 19)}
	s := stage(t, &scene{mesh: m, sessions: []api.SessionInfo{session("mnist", 24, 6)}, rounds: roundsOf{"mnist": steady("mnist", 24, who, 6, 4, "c")}})
	b := open(t)
	b.look(s.url+"/#/mnist/22", "light")
	b.until("round 22", live+` && document.querySelector("#round-title").textContent === "Round 22"`)
	if got := b.text("#verdict"); !contains(got, "1 of 3 peers is dead", "c does not answer") {
		t.Errorf("the verdict is %q", got)
	}
	if got := b.text(`.peer[data-state="dead"]`); !contains(got, "c", "dead") {
		t.Errorf("the dead peer is shown as %q", got)
	}
	if got := b.text("#seals"); !contains(got, "Round 23 is settled", "a has the model", "c awaited") {
		t.Errorf("of the seals is shown %q", got)
	}
	b.accessible("a peer is away")
	b.pictures("away")
	b.clean()
}

func TestNothingYet(t *testing.T) {
	s := stage(t, &scene{mesh: peers("a")})
	b := open(t)
	b.look(s.url, "light")
	b.until("no session", live+` && !document.querySelector("#none").hidden`)
	if got := b.text("#none"); !contains(got, "No session yet", "fedmesh session create demo") {
		t.Errorf("without sessions the page says %q", got)
	}
	b.accessible("nothing yet")
	b.pictures("empty")
	s.change(func() {
		s.sessions = []api.SessionInfo{session("first", 1, 0)}
		s.rounds = roundsOf{"first": steady("first", 1, []string{"a"}, 0, 0, "")}
	}, api.Event{Type: api.EventSession, Session: "first", State: api.SessionOpen})
	b.until("the first session", `document.querySelector("#session-name").textContent === "first" && document.querySelector("#none").hidden && !document.querySelector("#open-empty").hidden`)
	b.accessible("no round yet")
	b.pictures("first")
	b.clean()
}

// TestTrouble shows divergence, lost updates, amended and compacted rounds, and a round without updates.
func TestTrouble(t *testing.T) {
	who := []string{"a", "b", "c", "d", "e"}
	base := steady("mnist", 40, who, 5, 2, "")
	rounds := func(n uint64) api.RoundInfo {
		info := base(n)
		switch {
		case n <= 12:
			info.Compacted, info.Sealed, info.Computed = true, nil, nil
		case n == 20:
			info.Versions = 2
		case n == 25:
			info.Lost = []api.UpdateRef{{Combiner: "site-06", ID: "24.abc"}}
		case n == 30:
			info.Updates, info.Combiners, info.Weight, info.Metrics, info.Versions, info.Computed = nil, 0, 0, nil, 0, nil
		case n == 34:
			info.Divergent = true
			info.Computed["d"] = digest("other")
		case n > 36 && n < 40:
			info.State, info.WaitingFor, info.Sealed = api.RoundSettled, []string{"b", "e"}, []string{"a", "c", "d"}
			delete(info.Computed, "b")
			delete(info.Computed, "e")
		}
		return info
	}
	m := at(peers(who...), session("mnist", 40, 0))
	m.Agreed = false
	m.Peers[1].State, m.Peers[4].State, m.Peers[4].WaitingFor = api.PeerSuspect, api.PeerForgetting, []string{"c"}
	m.Peers[2].VectorLag = 14
	one := session("mnist", 40, 0)
	one.Divergent = 1
	s := stage(t, &scene{mesh: m, sessions: []api.SessionInfo{one}, rounds: roundsOf{"mnist": rounds}})
	b := open(t)
	b.look(s.url+"/#/mnist/34", "light")
	b.until("round 34", live+` && document.querySelector("#round-title").textContent === "Round 34" && document.querySelector('[data-round="34"] .cell')`)
	if role := eval[string](b, `document.querySelector("#verdict").getAttribute("role")`); role != "alert" {
		t.Errorf("divergence has the role %q, want alert", role)
	}
	if got := b.text("#verdict"); !contains(got, "Peers computed different models from the same inputs", "mnist") {
		t.Errorf("the verdict is %q", got)
	}
	// A word, a sign and the seams say it, not the colour alone.
	if got := b.text(`[data-round="34"]`); !contains(got, "!", "≠") {
		t.Errorf("the column of the divergence says %q", got)
	}
	if !eval[bool](b, `document.querySelector('[data-round="34"]').getAttribute("aria-label").includes("DIVERGES")`) {
		t.Error("the divergence has no words")
	}
	if got := b.text("#round-body tr.differs"); !contains(got, "d", "differs") {
		t.Errorf("the peer that differs is shown as %q", got)
	}
	for round, kind := range map[int]string{13: "final", 12: "compacted", 30: "empty", 38: "split", 40: "open"} {
		if got := eval[string](b, fmt.Sprintf(`document.querySelector('[data-round="%d"]')?.dataset.kind ?? "not there"`, round)); got != kind {
			t.Errorf("round %d is drawn as %s, want %s", round, got, kind)
		}
	}
	for round, sign := range map[int]string{20: "±", 25: "−"} {
		if got := b.text(fmt.Sprintf(`[data-round="%d"] .marks`, round)); got != sign {
			t.Errorf("round %d is marked %q, want %s", round, got, sign)
		}
	}
	b.accessible("trouble")
	b.pictures("trouble")
	b.look(s.url+"/#/mnist/25", "light")
	b.until("round 25", `document.querySelector("#round-title").textContent === "Round 25" && document.querySelector("#round-body .notice.warn")`)
	if got := b.text("#round-body .notice.warn"); !contains(got, "1 update left this round", "site-06") {
		t.Errorf("of the lost update is said %q", got)
	}
	b.clean()
}

const evil = `"><img src=x onerror=window.pwned=1><script>window.pwned=1</script><b>`

// TestHostileNames puts markup wherever a name can be.
func TestHostileNames(t *testing.T) {
	who := []string{"a" + evil, "b</style></svg>" + evil, "\u202egnp.exe"}
	base := steady("x", 9, who, 3, 2, "")
	rounds := func(n uint64) api.RoundInfo {
		info := base(n)
		for i := range info.Updates {
			info.Updates[i].Combiner = fmt.Sprintf("%d%s", i, evil)
			info.Updates[i].ID = evil
		}
		if info.Metrics != nil && n < 9 {
			info.Metrics[evil] = float64(n)
			info.Metrics["__proto__"] = 1
			info.Metrics["constructor"] = 2
		}
		info.Lost = []api.UpdateRef{{Combiner: evil, ID: evil}}
		return info
	}
	m := peers(who...)
	m.Mesh = evil
	m.Peers[1].API = `javascript:alert(1)//`
	m.Peers[2].API = `user@evil.example/x?y#z`
	one := session("x", 9, 3)
	one.Name = "s" + evil
	one.Config.Strategy = evil
	s := stage(t, &scene{mesh: m, sessions: []api.SessionInfo{one}, rounds: roundsOf{one.Name: rounds}})
	b := open(t)
	b.look(s.url+"/#/", "light")
	b.until("the page is live", live+` && document.querySelector("#session-name").textContent.startsWith("s")`)
	s.change(func() {}, api.Event{Type: api.EventWarning, Session: evil, Detail: evil}, api.Event{Type: api.EventUpdate, Session: evil, Combiner: evil, ID: evil, Peer: evil, State: "held"}, api.Event{Type: api.EventPeer, Peer: evil, State: evil})
	b.until("the events", `document.querySelectorAll("#events tr").length === 3`)
	eval[bool](b, `(() => { document.querySelector('[data-round="8"]').click(); document.querySelector("#values").open = true; return true })()`)
	b.until("round 8", `document.querySelector("#round-title").textContent === "Round 8" && document.querySelector("#values-table table")`)
	if eval[bool](b, `"pwned" in window`) {
		t.Error("a name ran as a script")
	}
	if n := eval[int](b, `document.querySelectorAll("img, iframe, object, embed, base, style, body b:not(.legend b), script:not([src^='/ui/'])").length`); n != 0 {
		t.Errorf("names made %d elements", n)
	}
	if bad := eval[string](b, `[...document.querySelectorAll("a")].map(a => a.href).filter(h => !h.startsWith(location.origin) && !h.startsWith("http://127.0.0.1:")).join(" ")`); bad != "" {
		t.Errorf("there are links to %s", bad)
	}
	if got := b.text("#peers"); strings.Contains(got, "\u202e") {
		t.Error("a name turns the text around it")
	}
	for _, where := range []string{"#where", "#peers", "#sessions", "#session-facts", "#combiners", "#round-body", "#plots", "#values-table", "#events"} {
		if got := eval[string](b, fmt.Sprintf("document.querySelector(%q).textContent", where)); !contains(got, evil) {
			t.Errorf("%s does not show the name as it is: %.300q", where, got)
		}
	}
	b.accessible("hostile names")
	b.pictures("hostile")
	b.clean()
}

// TestLarge wants a page that stays small whatever the mesh is.
func TestLarge(t *testing.T) {
	var who []string
	for i := range 24 {
		who = append(who, fmt.Sprintf("reducer-%02d.eu-north.example", i+1))
	}
	m := at(peers(who...), session("run-000", 10_000, 500))
	m.Peers[5].State = api.PeerDead
	const open10k = 10_000
	s := &scene{mesh: m, rounds: roundsOf{"run-000": steady("run-000", open10k, who, 500, 321, who[5])}}
	for i := range 100 {
		one := session(fmt.Sprintf("run-%03d", i), 12, 0)
		if i == 0 {
			one = session("run-000", open10k, 500)
		}
		s.sessions = append(s.sessions, one)
	}
	stage(t, s)
	b := open(t)
	b.look(s.url+"/#/run-000", "light")
	b.until("the page is live", live+` && document.querySelector('[data-round="10000"]') && document.querySelector("#open-count").textContent === "321 of 500 combiners"`)
	count := func() int { return eval[int](b, `document.querySelectorAll("*").length`) }
	if n := count(); n > 4000 {
		t.Errorf("the page has %d elements", n)
	}
	eval[bool](b, `(() => { document.querySelector("#goto-round").value = "4321"; document.querySelector("#goto").requestSubmit(); return true })()`)
	b.until("round 4321", `document.querySelector("#round-title").textContent === "Round 4,321" && document.querySelector('[data-round="4321"].final')`)
	b.accessible("a large mesh")
	b.pictures("large")
	eval[bool](b, `(() => { document.querySelector("#round-close").click(); document.querySelector("#chain-oldest").click(); const k = document.querySelector("#span"); k.value = "100000"; k.dispatchEvent(new Event("change")); return true })()`)
	b.until("the first round", `document.querySelector('[data-round="1"].final')`)
	b.until("all values", `document.querySelector("#plots .reading").textContent !== "" && performance.getEntriesByType("resource").filter(e => e.name.includes("updates=false&from=1&")).length > 0`)
	eval[bool](b, `(() => { const f = document.querySelector("#session-filter"); f.value = "run-07"; f.dispatchEvent(new Event("input")); return true })()`)
	b.until("ten sessions", `document.querySelectorAll("#sessions li").length === 10`)
	// A storm of events is drawn as it comes, and fetched for now and then.
	s.mu.Lock()
	before, begin := s.asked["/v1/mesh"], time.Now()
	s.mu.Unlock()
	for i := range 3000 {
		s.change(func() {}, api.Event{Type: api.EventUpdate, Session: "run-000", Combiner: fmt.Sprintf("c%d", i), ID: "1", Peer: who[0], State: "held"})
	}
	b.until("the last of them", `document.querySelector("#events").textContent.includes("c2999")`)
	if n := eval[int](b, `document.querySelectorAll("#events tr").length`); n > 100 {
		t.Errorf("%d lines of events", n)
	}
	s.mu.Lock()
	if n, took := s.asked["/v1/mesh"]-before, time.Since(begin); n > 5+int(took/(300*time.Millisecond)) {
		t.Errorf("3000 events made the page ask %d times in %v", n, took)
	}
	s.mu.Unlock()
	if n := count(); n > 4500 {
		t.Errorf("the page has %d elements", n)
	}
	b.clean()
}

func TestSigningIn(t *testing.T) {
	s := well(t)
	s.change(func() { s.token = "let me in" })
	b := open(t)
	b.look(s.url+"/#/mnist", "light")
	b.until("the form", `!document.querySelector("#login").hidden && document.activeElement.id === "token"`)
	b.accessible("signing in")
	b.pictures("login")
	b.typed("wrong")
	b.key("Enter")
	b.until("the refusal", `document.querySelector("#login-error").textContent.includes("does not know this token")`)
	b.typed("let me in")
	b.key("Enter")
	b.until("the page is live", live+` && document.querySelector("#login").hidden && document.querySelectorAll(".column.final").length === 23`)
	if eval[string](b, "document.cookie") != "" {
		t.Error("scripts can read the cookie")
	}
	if got := eval[string](b, `document.querySelector("#token").value`); got != "" {
		t.Error("the token stays in the form")
	}
	b.until("whose token it is", `document.querySelector("#who").innerText.startsWith("wall display, reader")`)
	b.pictures("signed-in")
	eval[bool](b, `(() => { document.querySelector("#sign-out").click(); return true })()`)
	b.until("the form once more", `!document.querySelector("#login").hidden && document.querySelector("#who").hidden`)
	b.typed("let me in")
	b.key("Enter")
	b.until("the page once more", live+` && document.querySelector("#login").hidden`)
	s.change(func() { s.token = "another" })
	b.until("the form again", `!document.querySelector("#login").hidden && document.querySelector("#all").hidden`)
	b.clean("401")
}

// TestSignedOutMeanwhile has an answer from before signing out arrive after it.
func TestSignedOutMeanwhile(t *testing.T) {
	s := well(t)
	s.change(func() { s.token = "let me in" })
	b := open(t)
	b.look(s.url, "light")
	b.until("the form", `!document.querySelector("#login").hidden && document.activeElement.id === "token"`)
	b.typed("let me in")
	b.key("Enter")
	b.until("the page is live", live+` && document.querySelector("#login").hidden && document.querySelectorAll(".column.final").length === 23`)
	held := make(chan struct{})
	const last = "/v1/sessions/mnist/rounds" // of what is asked for each time
	s.change(func() { s.held = map[string]chan struct{}{last: held} })
	s.more(t, last)
	asked := s.times("/v1/login")
	eval[bool](b, `(() => { document.querySelector("#sign-out").click(); return true })()`)
	b.until("the form once more", `!document.querySelector("#login").hidden`)
	eval[bool](b, `(() => { window.shown = 0; new MutationObserver(() => window.shown++).observe(document.querySelector("#login"), {attributes: true}); return true })()`)
	s.change(func() { s.held = nil })
	close(held)
	s.more(t, "/v1/mesh") // the answer has come, and the page asks the next question
	if n := s.times("/v1/login") - asked; n > 0 || eval[int](b, "window.shown") > 0 {
		t.Errorf("the page signed in again by itself, and asked %d times who it is", n)
	}
	b.clean("401")
}

// TestEventsWithoutEnd wants that what events tell of is shown while more of them come all the time.
func TestEventsWithoutEnd(t *testing.T) {
	s := well(t)
	b := open(t)
	b.look(s.url, "light")
	b.until("the page is live", live+` && document.querySelectorAll(".column.final").length === 23`)
	stop := make(chan struct{})
	var storm sync.WaitGroup
	storm.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				s.change(func() {}, api.Event{Type: api.EventUpdate, Session: "tumour-segmentation", Combiner: "c", ID: "1", Peer: "a", State: "held"})
			}
		}
	})
	defer storm.Wait()
	defer close(stop)
	b.until("the storm", `document.querySelectorAll("#events tr").length === 1`)
	s.change(func() { s.rounds["mnist"] = steady("mnist", 24, []string{"a", "b", "c"}, 6, 5, "") })
	b.until("the fifth combiner", `document.querySelector("#open-count").textContent === "5 of 6 combiners"`)
	b.clean()
}

// TestTimeGoesOn wants the time since the round opened by the peer's clock to go on by itself.
func TestTimeGoesOn(t *testing.T) {
	s := well(t)
	b := open(t)
	b.look(s.url, "light")
	b.until("the round has been open for some time", `document.querySelector("#open-since").textContent.startsWith("open for")`)
	was := b.text("#open-since")
	b.until("it goes on", fmt.Sprintf(`document.querySelector("#open-since").textContent !== %q`, was))
	b.clean()
}

// TestAnswersCutOff has fetches fail while the stream of events goes on.
func TestAnswersCutOff(t *testing.T) {
	s := well(t)
	b := open(t)
	b.look(s.url, "light")
	b.until("the page is live", live+` && document.querySelectorAll(".column.final").length === 23`)
	s.change(func() { s.broken = true }, api.Event{Type: api.EventPeer, Peer: "c", State: "alive"})
	b.until("the loss is told", `!document.querySelector("#lost").hidden && document.title.startsWith("?")`)
	s.change(func() { s.broken = false })
	b.until("all is well again", live+` && document.querySelector("#lost").hidden && !document.querySelector("#verdict").hidden && document.title.startsWith("✓")`)
	b.clean("net::ERR_")
}
