package fedn_test

import (
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/fedmesh/fedmesh/mesh/fedn"
	"github.com/fedmesh/fedmesh/mesh/fedn/fednpb"
)

func want(t *testing.T, b []byte, arrays ...array) {
	t.Helper()
	if got := read(t, b); !reflect.DeepEqual(got, arrays) {
		t.Errorf("got %v, want %v", got, arrays)
	}
}

// left returns what lies in a gateway's folder.
func left(t *testing.T, dir string) []string {
	t.Helper()
	names, _ := filepath.Glob(filepath.Join(dir, "*-*"))
	more, _ := filepath.Glob(filepath.Join(dir, "pending", "*"))
	return append(names, more...)
}

// The numbers are those with which FEDn's own reducer says 6.625.
func TestTwoCombinersGetTheWeightedMean(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := startPeer(t)
		both := func(c *fedn.Config) { c.Open.TargetCombiners = 2 }
		one := startGateway(t, p.client(), "one", t.TempDir(), both)
		two := startGateway(t, p.client(), "two", t.TempDir(), both)
		global := npz(t, f32(0, 0))
		type result struct {
			b   []byte
			err error
		}
		for range 3 {
			answers := make(chan result)
			go func() {
				b, err := one.round(global, examples("x", 10, npz(t, f32(1, 1))), examples("y", 30, npz(t, f32(4, 4))))
				answers <- result{b, err}
			}()
			go func() {
				b, err := two.round(global, examples("z", 5, npz(t, f32(10, 10))))
				answers <- result{b, err}
			}()
			a, b := <-answers, <-answers
			first, second := one.must(a.b, a.err), two.must(b.b, b.err)
			want(t, first, f32(4, 4))
			want(t, second, f32(4, 4))
			global = first // as FEDn's controller does, whose mean of two equal models is that model
		}
		info, err := p.asks.Session(t.Context(), "s")
		if err != nil || info.ModelRound != 3 {
			t.Errorf("round %d, %v", info.ModelRound, err)
		}
		if log := one.log.String() + two.log.String(); strings.Contains(log, "none of the session's") {
			t.Error(log)
		}
	})
}

func TestManyClients(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := startPeer(t)
		dir := t.TempDir()
		c := startGateway(t, p.client(), "one", dir, nil)
		var clients []trained
		sum, weights := 0.0, 0.0
		for i := range 50 {
			clients = append(clients, examples(fmt.Sprint("client", i), i+1, npz(t, f32(float64(i), 0.5))))
			sum += float64(i * (i + 1))
			weights += float64(i + 1)
		}
		out := c.must(c.round(npz(t, f32(0, 0)), clients...))
		want(t, out, f32(float64(float32(sum/weights)), 0.5))
		c.stop()
		if files := left(t, dir); len(files) > 0 {
			t.Errorf("left behind: %v", files)
		}
	})
}

// FEDn turns integers into float64 when it averages.
func TestOtherDtypesAreConverted(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := startPeer(t)
		c := startGateway(t, p.client(), "one", t.TempDir(), nil)
		out := c.must(c.round(npz(t, f32(1), i64(3)), examples("x", 1, npz(t, f32(2), i64(4))), examples("y", 1, npz(t, f64(4), f64(6)))))
		want(t, out, f32(3), i64(5))
		out = c.must(c.round(npz(t, f64(3), f64(5)), examples("x", 1, npz(t, f32(7), i64(9)))))
		want(t, out, f32(7), i64(9))
		if strings.Contains(c.log.String(), "none of the session's") {
			t.Error("a converted model was not recognised:", c.log)
		}
	})
}

func TestWhatCannotBeUsedIsLeftOut(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := startPeer(t)
		c := startGateway(t, p.client(), "one", t.TempDir(), nil)
		good := npz(t, f32(2, 2))
		global := npz(t, f32(1, 1))
		for name, bad := range map[string]trained{
			"shape":    examples("bad", 1, npz(t, f32(1, 2, 3))),
			"more":     examples("bad", 1, npz(t, f32(1, 2), f32(1))),
			"nan":      examples("bad", 1, npz(t, f32(1, nan()))),
			"garbage":  examples("bad", 1, []byte("this is no model at all")),
			"nothing":  examples("bad", 1, nil),
			"weight":   {"bad", `{"num_examples": 0}`, good},
			"half":     {"bad", `{"num_examples": 1.5}`, good},
			"silent":   {"bad", `{}`, good},
			"no JSON":  {"bad", `num_examples`, good},
			"too many": examples("bad", 1<<38-1, good),
		} {
			c.log.Reset()
			global = c.must(c.round(global, examples("good", 3, good), bad))
			want(t, global, f32(2, 2))
			if n := strings.Count(c.log.String(), "a client is left out"); n != 1 || !strings.Contains(c.log.String(), `"client":"bad"`) {
				t.Errorf("%s: %s", name, c.log)
			}
		}
	})
}

// FEDn asks again after a failure, when it has thrown the clients' models away.
func TestAskedAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := startPeer(t)
		c := startGateway(t, p.client(), "one", t.TempDir(), nil)
		global := npz(t, f32(1))
		if _, err := c.aggregate(); err == nil {
			t.Error("an aggregate of nothing")
		}
		want(t, c.must(c.round(global)), f32(1)) // nobody trained
		out := c.must(c.round(global, examples("x", 1, npz(t, f32(5)))))
		want(t, out, f32(5))
		want(t, c.must(c.round(global)), f32(5))
		want(t, c.must(c.aggregate()), f32(5))
		// When it tries a call again it sends nothing for the global model, since it has read that to the end.
		want(t, c.must(c.round(nil)), f32(5))
		info, err := p.asks.Session(t.Context(), "s")
		if err != nil || info.ModelRound != 1 {
			t.Errorf("round %d, %v", info.ModelRound, err)
		}
	})
}

// FEDn tries again what failed in mid-round: it sends nothing for the global model, and only the clients that are left.
func TestTriedAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := startPeer(t)
		c := startGateway(t, p.client(), "one", t.TempDir(), nil)
		if err := c.store("global_model", nil, 1000); err == nil {
			t.Error("a round without a global model")
		}
		if err := c.store("global_model", npz(t, f32(1)), 1000); err != nil {
			t.Fatal(err)
		}
		x := examples("x", 1, npz(t, f32(3)))
		if _, err := c.stub.HandleMetadata(t.Context(), &fednpb.ClientMetaRequest{Metadata: x.meta, ClientId: x.client}); err != nil {
			t.Fatal(err)
		}
		if err := c.store(x.client, x.model, 1000); err != nil {
			t.Fatal(err)
		}
		want(t, c.must(c.round(nil, examples("y", 1, npz(t, f32(5))))), f32(4))
		synctest.Wait() // it says in its own time that nobody had opened the session
		c.log.Reset()
		want(t, c.must(c.round(nil)), f32(4))
		if p.round() != 1 || c.log.String() != "" {
			t.Errorf("round %d\n%s", p.round(), c.log)
		}
		// One that was refused is not taken for the round before.
		if err := c.store("global_model", npz(t, f32(1, 2)), 1000); err == nil {
			t.Error("another layout")
		}
		if err := c.store("global_model", nil, 1000); err == nil {
			t.Error("tried again, and taken")
		}
	})
}

// While the mesh is away the combiner goes on with its own mean; the update is pushed later, by the
// gateway of the next start if need be.
func TestMeshIsAway(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := startPeer(t)
		dir := t.TempDir()
		c := startGateway(t, p.client(), "one", dir, hasty)
		global := c.must(c.round(npz(t, f32(1)), examples("x", 1, npz(t, f32(2)))))
		p.down()
		out := c.must(c.round(global, examples("x", 1, npz(t, f32(4))), examples("y", 3, npz(t, f32(8)))))
		want(t, out, f32(7))
		if !strings.Contains(c.log.String(), "its own clients' mean") {
			t.Error(c.log)
		}
		c.stop()
		if files := left(t, dir); len(files) != 3 { // what it was trained from, too
			t.Errorf("left on disk: %v", files)
		}
		p.up()
		c = startGateway(t, p.client(), "one", dir, nil)
		eventually(t, "it is pushed", c.log, func() bool { return p.round() == 2 })
		// From here on it is as if nothing had been.
		out = c.must(c.round(out, examples("x", 1, npz(t, f32(9)))))
		want(t, out, f32(9))
		if files := left(t, filepath.Join(dir, "pending")); len(files) > 0 {
			t.Errorf("left on disk: %v", files)
		}
	})
}

func TestSmallAnswers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := startGateway(t, startPeer(t).client(), "one", t.TempDir(), nil)
		f, err := c.stub.HandleProvidedFunctions(t.Context(), &fednpb.ProvidedFunctionsRequest{FunctionCode: "def aggregate(): pass"})
		if err != nil || !f.GetAvailableFunctions()["aggregate"] || len(f.GetAvailableFunctions()) != 4 {
			t.Errorf("%v, %v", f, err)
		}
		s, err := c.stub.HandleClientSelection(t.Context(), &fednpb.ClientSelectionRequest{ClientIds: `["a","b"]`})
		if err != nil || s.GetClientIds() != `["a","b"]` {
			t.Errorf("%v, %v", s, err)
		}
		stream, err := c.stub.HandleClientConfig(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.Send(&fednpb.ClientConfigRequest{Data: []byte("model")}); err != nil {
			t.Fatal(err)
		}
		r, err := stream.CloseAndRecv()
		if err != nil || r.GetClientSettings() != "{}" {
			t.Errorf("%v, %v", r, err)
		}
	})
}
