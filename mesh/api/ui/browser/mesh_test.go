package browser_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"math"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/meshtest/process"
	"github.com/fedmesh/fedmesh/model"
)

var fedmesh = flag.String("fedmesh", "", "fedmesh `binary`; built when not given")

// mesh is three real processes and combiners that push to them.
type mesh struct {
	t       *testing.T
	cluster *process.Cluster
	client  *api.Client
	session string
	pushed  int
}

// build returns the path of a fedmesh binary.
func build(t *testing.T) string {
	t.Helper()
	chromium(t) // without it nothing need be built
	if *fedmesh != "" {
		return *fedmesh
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*ample)
	defer cancel()
	binary, err := process.Build(ctx, "../../../..", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return binary
}

func start(t *testing.T, binary string, n int, args ...string) *mesh {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*ample)
	t.Cleanup(cancel)
	c, err := process.NewCluster(process.Options{Binary: binary, N: n, Dir: t.TempDir(), Mesh: "demo", ExtraArgs: args})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, n := range c.Names() {
				t.Logf("%s: %s", n, c.Tail(n, 5))
			}
		}
		_ = c.Close()
	})
	if err := c.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if n > 1 {
		if err := c.Together(ctx, ""); err != nil {
			t.Fatal(err)
		}
	}
	client, err := api.NewClient(c.URLs()[:1], api.ClientOptions{}) // the peer that is watched, so that what the page shows is what a push meets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return &mesh{t: t, cluster: c, client: client}
}

// weights is a model of a few equal numbers.
func weights(v float32) []byte {
	l, err := model.NewLayout([]model.Tensor{{Name: "w", DType: model.F32, Shape: []int64{64}}})
	if err != nil {
		panic(err)
	}
	b := bytes.Clone(l.Header())
	for range 64 {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	return b
}

func body(v float32) func() (io.ReadCloser, int64, error) {
	b := weights(v)
	return func() (io.ReadCloser, int64, error) { return io.NopCloser(bytes.NewReader(b)), int64(len(b)), nil }
}

func (m *mesh) create(name string, target int) {
	m.t.Helper()
	cfg := api.DefaultSessionConfig()
	cfg.TargetCombiners, cfg.RoundTimeout = target, api.Duration(time.Hour)
	ctx, cancel := context.WithTimeout(context.Background(), ample)
	defer cancel()
	if _, _, err := m.client.CreateSession(ctx, name, cfg, body(0)); err != nil {
		m.t.Fatal(err)
	}
	m.session = name
}

// push has combiners from..to push, each with metrics.
func (m *mesh) push(round, from, to int) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), ample)
	defer cancel()
	for i := from; i <= to; i++ {
		x := float64(round) + float64(i)/10
		_, err := m.client.Push(ctx, m.session, api.PushOptions{
			Combiner: fmt.Sprintf("clinic-%d", i), ID: fmt.Sprintf("<img'src=x'onerror=pwned=1>%d", round), Weight: int64(500 + 40*i), Base: "latest",
			Metrics: map[string]float64{"loss": 2 / (1 + x/3), "accuracy": 0.95 - 0.7/(1+x/2)},
		}, body(float32(x)))
		if err != nil {
			m.t.Fatalf("combiner %d in round %d: %v", i, round, err)
		}
		m.pushed++
	}
}

// restart starts a peer again that was killed.
func (m *mesh) restart(name string) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), ample)
	defer cancel()
	if err := m.cluster.Restart(ctx, name); err != nil {
		m.t.Fatal(err)
	}
}

// TestMesh watches a real mesh: rounds, the death of one peer, its return, and the death of the peer that is watched.
func TestMesh(t *testing.T) {
	m := start(t, build(t), 3)
	urls := m.cluster.URLs()
	b := open(t)
	b.look(urls[0], "light")
	b.until("three peers and no session", live+` && document.querySelectorAll('.peer[data-state="alive"]').length === 3 && !document.querySelector("#none").hidden`)
	m.create("clinics", 4)
	b.until("the session", `document.querySelector("#session-name").textContent === "clinics"`)
	eval[bool](b, `window.same = true`)

	rounds := func(n int) {
		t.Helper()
		b.until(fmt.Sprintf("round %d", n+1), fmt.Sprintf(`document.querySelector("#open-title").textContent === "Round %d"`, n+1))
	}
	for n := 1; n <= 8; n++ {
		m.push(n, 1, 4)
		rounds(n)
	}
	b.until("eight rounds on which all agree", `document.querySelectorAll(".column.final .block").length === 8`)
	b.until("all is well", `document.querySelector("#verdict .verdict-title").textContent === "All is well"`)
	b.until("two plots", `document.querySelectorAll("#plots canvas").length === 2`)
	m.push(9, 1, 3)
	b.until("the ninth round fills up", `document.querySelector("#open-count").textContent === "3 of 4 combiners" && document.querySelectorAll(".chip.out").length === 1`)
	b.accessible("a mesh that is well")
	b.pictures("mesh-well")
	b.clean()

	if err := m.cluster.Kill("c"); err != nil {
		t.Fatal(err)
	}
	b.until("c is shown as dead", `document.querySelector('.peer[data-state="dead"] .peer-head').textContent.startsWith("c") && document.querySelector("#verdict .verdict-title").textContent === "1 of 3 peers is dead"`)
	b.until("its death is an event", `document.querySelector("#events").textContent.includes("Peer c is dead")`)
	m.push(9, 4, 4)
	rounds(9)
	for n := 10; n <= 12; n++ {
		m.push(n, 1, 4)
		rounds(n)
	}
	b.until("rounds that c has no word in", `document.querySelectorAll(".column.split").length >= 3 && document.querySelector('[data-round="12"] .cell.missing')`)
	b.until("the words for it", `(label => label.includes("a, b have it") && label.includes("waits for c"))(document.querySelector('[data-round="11"]').getAttribute("aria-label"))`)
	m.push(13, 1, 2)
	b.until("round 13 fills up", `document.querySelector("#open-count").textContent === "2 of 4 combiners"`)
	eval[bool](b, `(() => { document.querySelector('[data-round="11"]').click(); return true })()`)
	b.until("round 11", `document.querySelector("#round-title").textContent === "Round 11" && document.querySelector("#round-body").textContent.includes("onerror=pwned=1>11")`)
	if eval[int](b, `document.querySelectorAll("img").length`) != 0 || eval[bool](b, `"pwned" in window`) {
		t.Error("an id is more than text")
	}
	b.accessible("a mesh with a dead peer")
	b.pictures("mesh-dead")
	eval[bool](b, `(() => { document.querySelector("#round-close").click(); return true })()`)
	b.until("the round is closed", `document.querySelector("#round").hidden`)
	b.run(size(1280, 1040))
	b.shot("dashboard")
	b.clean()

	m.restart("c")
	b.until("all is well again", `document.querySelector("#verdict .verdict-title").textContent === "All is well" && document.querySelectorAll(".column.final .block").length === 12`)
	m.push(13, 3, 4)
	rounds(13)
	b.until("all agree again", `document.querySelectorAll(".column.final .block").length === 13 && document.querySelector("#verdict .verdict-title").textContent === "All is well"`)
	if !eval[bool](b, `window.same === true`) {
		t.Error("the page was loaded anew")
	}
	b.clean()

	// The peer that is watched dies: the page says so, and where the others are.
	if err := m.cluster.Kill("a"); err != nil {
		t.Fatal(err)
	}
	b.until("the loss is told", `!document.querySelector("#lost").hidden && document.querySelector("#lost").textContent.includes("a does not answer") && document.querySelector("#verdict").hidden && document.querySelector("#link").dataset.state === "lost"`)
	links := eval[string](b, `[...document.querySelectorAll("#lost a")].map(a => a.href).join(" ")`)
	if want := urls[1] + "/#/clinics " + urls[2] + "/#/clinics"; links != want {
		t.Errorf("the others are said to be at %s, want %s", links, want)
	}
	b.accessible("the peer is gone")
	b.pictures("mesh-lost")
	m.restart("a")
	b.until("the page is live again", live+` && document.querySelector("#lost").hidden && document.querySelector("#verdict .verdict-title").textContent === "All is well"`)
	m.push(14, 1, 4)
	rounds(14)
	b.clean("net::ERR_") // what Chromium itself says of each attempt meanwhile

	// Another peer shows the same.
	b.look(links[:len(urls[1])]+"/#/clinics", "dark")
	b.until("b shows the same", live+` && document.querySelector("#where").textContent.startsWith("Peer b") && document.querySelectorAll(".column.final .block").length === 14`)
	b.clean()
}

// TestTokens signs in at a real peer that asks for tokens.
func TestTokens(t *testing.T) {
	binary := build(t)
	file := filepath.Join(t.TempDir(), "tokens")
	token := func(args ...string) string {
		out, err := exec.Command(binary, append([]string{"token", "new", "--file", file}, args...)...).Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(out))
	}
	reader, combiner := token("--role", "reader", "--name", "wall"), token("--role", "combiner", "--name", "clinic")
	m := start(t, binary, 1, "--tokens-file", file)
	b := open(t)
	b.look(m.cluster.URLs()[0], "light")
	b.until("the form", `!document.querySelector("#login").hidden && document.activeElement.id === "token"`)
	b.typed("fedmesh_nobody")
	b.key("Enter")
	b.until("the refusal", `document.querySelector("#login-error").textContent !== ""`)
	b.typed(combiner)
	b.key("Enter")
	b.until("a combiner may not look", `document.querySelector("#login-error").textContent.includes("may not") && !document.querySelector("#login").hidden`)
	b.typed(reader)
	b.key("Enter")
	b.until("the page is live", live+` && !document.querySelector("#none").hidden && document.querySelector("#who").innerText.startsWith("wall, reader")`)
	if eval[string](b, "document.cookie") != "" {
		t.Error("scripts can read the cookie")
	}
	eval[bool](b, `(() => { document.querySelector("#sign-out").click(); return true })()`)
	b.until("signed out", `!document.querySelector("#login").hidden`)
	b.clean("401", "403")
}
