package ledger_test

import (
	"bytes"
	"errors"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/fedmesh/fedmesh/mesh/ledger"
	"github.com/fedmesh/fedmesh/model"
)

func logID() *rapid.Generator[ledger.LogID] {
	return rapid.Custom(func(t *rapid.T) (id ledger.LogID) {
		copy(id[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "log"))
		return id
	})
}

func digest() *rapid.Generator[model.Digest] {
	return rapid.Custom(func(t *rapid.T) (d model.Digest) {
		copy(d[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "digest"))
		return d
	})
}

func vector() *rapid.Generator[ledger.Vector] {
	return rapid.Map(rapid.MapOf(logID(), rapid.Uint64Min(1)), func(m map[ledger.LogID]uint64) ledger.Vector { return m })
}

func logs() *rapid.Generator[[]ledger.LogID] {
	return rapid.Map(rapid.SliceOfDistinct(logID(), rapid.ID[ledger.LogID]), func(ids []ledger.LogID) []ledger.LogID {
		slices.SortFunc(ids, ledger.LogID.Compare)
		return ids
	})
}

func named[T any](value *rapid.Generator[T]) *rapid.Generator[map[string]T] {
	return rapid.MapOfN(rapid.String(), value, 0, 5)
}

func config(t *rapid.T) ledger.Config {
	ms := rapid.Map(rapid.Int64Range(0, 1<<53), func(n int64) ledger.Time { return ledger.Time(n) })
	c := ledger.Config{
		Strategy: rapid.String().Draw(t, "strategy"), TargetCombiners: rapid.Uint32().Draw(t, "target"), MinCombiners: rapid.Uint32().Draw(t, "min"),
		Copies: rapid.Uint32().Draw(t, "copies"), RoundTimeout: ms.Draw(t, "round"), SettleTimeout: ms.Draw(t, "settle"), LostAfter: ms.Draw(t, "lost"),
	}
	for name, value := range named(rapid.String()).Draw(t, "params") {
		c.Params = append(c.Params, ledger.Param{Name: name, Value: value})
	}
	slices.SortFunc(c.Params, func(a, b ledger.Param) int { return strings.Compare(a.Name, b.Name) })
	return c
}

func held(t *rapid.T) *ledger.UpdateHeld {
	u := &ledger.UpdateHeld{
		Session: digest().Draw(t, "session"), Combiner: rapid.String().Draw(t, "combiner"), ID: rapid.String().Draw(t, "id"), Model: digest().Draw(t, "model"),
		Bytes: rapid.Uint64().Draw(t, "bytes"), Weight: rapid.Uint64Range(1, ledger.MaxWeight).Draw(t, "weight"), Base: digest().Draw(t, "base"),
		BaseRound: rapid.Uint64().Draw(t, "base round"), Norm: rapid.Float64().Draw(t, "norm"),
	}
	for name, value := range named(rapid.Float64()).Draw(t, "metrics") {
		u.Metrics = append(u.Metrics, ledger.Metric{Name: name, Value: value})
	}
	slices.SortFunc(u.Metrics, func(a, b ledger.Metric) int { return strings.Compare(a.Name, b.Name) })
	return u
}

func body() *rapid.Generator[ledger.Body] {
	return rapid.Custom(func(t *rapid.T) ledger.Body {
		session, n := digest().Draw(t, "session"), rapid.Uint64().Draw(t, "round")
		text := rapid.String().Draw(t, "text")
		switch ledger.Kind(rapid.IntRange(1, 12).Draw(t, "kind")) {
		case ledger.KindPeerJoined:
			return &ledger.PeerJoined{Name: text, Mesh: rapid.String().Draw(t, "mesh")}
		case ledger.KindPeerLeft:
			return &ledger.PeerLeft{Seen: vector().Draw(t, "seen")}
		case ledger.KindPeerForgotten:
			return &ledger.PeerForgotten{Targets: logs().Draw(t, "targets")}
		case ledger.KindForgetAcknowledged:
			return &ledger.ForgetAcknowledged{Proposal: ledger.Ref{Log: logID().Draw(t, "log"), Seq: n}, Upto: vector().Draw(t, "upto")}
		case ledger.KindSessionOpened:
			return &ledger.SessionOpened{Session: session, Name: text, Config: config(t), Seed: digest().Draw(t, "seed"), Members: logs().Draw(t, "members")}
		case ledger.KindSessionClosed:
			return &ledger.SessionClosed{Session: session}
		case ledger.KindUpdateHeld:
			return held(t)
		case ledger.KindUpdateDropped:
			return &ledger.UpdateDropped{Session: session, Combiner: text, ID: rapid.String().Draw(t, "id")}
		case ledger.KindUpdateLost:
			return &ledger.UpdateLost{Session: session, Combiner: text, ID: rapid.String().Draw(t, "id"), Round: n, Inputs: digest().Draw(t, "inputs")}
		case ledger.KindRoundSealed:
			return &ledger.RoundSealed{Session: session, Round: n, Cut: vector().Draw(t, "cut")}
		case ledger.KindRoundsSkipped:
			in := rapid.SliceOfN(digest(), 1, 5).Draw(t, "inputs")
			n = min(n, 1<<63)
			return &ledger.RoundsSkipped{Session: session, From: n, To: n + uint64(len(in)) - 1, Seen: vector().Draw(t, "seen"), Inputs: in}
		}
		return &ledger.RoundComputed{
			Session: session, Round: n, Inputs: digest().Draw(t, "inputs"), Result: ledger.Result{Model: digest().Draw(t, "model"), State: digest().Draw(t, "state")}, Most: rapid.Uint64().Draw(t, "most"), Seen: vector().Draw(t, "seen"),
		}
	})
}

func entry() *rapid.Generator[*ledger.Entry] {
	return rapid.Custom(func(t *rapid.T) *ledger.Entry {
		return ledger.NewEntry(logID().Draw(t, "log"), rapid.Uint64Min(2).Draw(t, "seq"), digest().Draw(t, "prev"), body().Draw(t, "body"))
	})
}

func TestDecodeReturnsWhatWasEncoded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := entry().Draw(t, "entry")
		got, err := ledger.DecodeEntry(e.Raw)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, e) {
			t.Fatalf("got %+v\nwant %+v", got.Body, e.Body)
		}
	})
}

// checkCanonical decodes bytes and, if that works, insists that they are the one encoding of what they say.
func checkCanonical(t interface{ Fatalf(string, ...any) }, raw []byte) {
	e, err := ledger.DecodeEntry(raw)
	if err != nil {
		if !errors.Is(err, ledger.ErrEncoding) {
			t.Fatalf("another error: %v", err)
		}
		return
	}
	if again := ledger.NewEntry(e.Log, e.Seq, e.Prev, e.Body); !bytes.Equal(again.Raw, raw) || again.Digest != e.Digest {
		t.Fatalf("%x is accepted and encodes as %x", raw, again.Raw)
	}
}

func TestOneEncodingForEachValue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		raw := slices.Clone(entry().Draw(t, "entry").Raw)
		at := rapid.IntRange(0, len(raw)-1).Draw(t, "at")
		switch rapid.IntRange(0, 3).Draw(t, "damage") {
		case 0:
			raw[at] ^= byte(1 << rapid.IntRange(0, 7).Draw(t, "bit"))
		case 1:
			raw = raw[:at]
		case 2:
			raw = slices.Insert(raw, at, rapid.Byte().Draw(t, "byte"))
		case 3:
			raw = append(raw, rapid.Byte().Draw(t, "byte"))
		}
		checkCanonical(t, raw)
	})
}

func TestOtherSpellingsAreRefused(t *testing.T) {
	e := ledger.NewEntry(ledger.LogID{1}, 2, model.Digest{}, &ledger.SessionClosed{})
	at := bytes.Index(e.Raw, []byte{2, 0xc4, 32}) // the sequence number
	for name, raw := range map[string][]byte{
		"longer integer": slices.Concat(e.Raw[:at], []byte{0xcc, 2}, e.Raw[at+1:]),
		"signed integer": slices.Concat(e.Raw[:at], []byte{0xd0, 2}, e.Raw[at+1:]),
		"nil":            slices.Concat(e.Raw[:at], []byte{0xc0}, e.Raw[at+1:]),
		"longer array":   slices.Concat([]byte{0xdc, 0, 5}, e.Raw[1:]),
		"trailing byte":  append(slices.Clone(e.Raw), 0),
		"empty":          nil,
		"too long":       make([]byte, ledger.MaxEntry+1),
	} {
		if _, err := ledger.DecodeEntry(raw); !errors.Is(err, ledger.ErrEncoding) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ledger.DecodeEntry(e.Raw); err != nil {
		t.Error(err)
	}
}

func TestBeyondLimits(t *testing.T) {
	id := ledger.LogID{1}
	for name, e := range map[string]*ledger.Entry{
		"weight 0":          ledger.NewEntry(id, 2, model.Digest{}, &ledger.UpdateHeld{}),
		"weight 2^38":       ledger.NewEntry(id, 2, model.Digest{}, &ledger.UpdateHeld{Weight: ledger.MaxWeight + 1}),
		"sequence 0":        ledger.NewEntry(id, 0, model.Digest{}, &ledger.PeerJoined{}),
		"starts otherwise":  ledger.NewEntry(id, 1, model.Digest{}, &ledger.PeerLeft{}),
		"starts in between": ledger.NewEntry(id, 1, model.Digest{1}, &ledger.PeerJoined{}),
		"logs unordered":    ledger.NewEntry(id, 2, model.Digest{}, &ledger.PeerForgotten{Targets: []ledger.LogID{{2}, {1}}}),
		"log twice":         ledger.NewEntry(id, 2, model.Digest{}, &ledger.PeerForgotten{Targets: []ledger.LogID{{1}, {1}}}),
		"vector of zeros":   ledger.NewEntry(id, 2, model.Digest{}, &ledger.RoundSealed{Cut: ledger.Vector{{1}: 0}}),
		"metrics unordered": ledger.NewEntry(id, 2, model.Digest{}, &ledger.UpdateHeld{Weight: 1, Metrics: []ledger.Metric{{Name: "b"}, {Name: "a"}}}),
		"skips for ever":    ledger.NewEntry(id, 2, model.Digest{}, &ledger.RoundsSkipped{From: 1, To: 1<<64 - 1, Inputs: []model.Digest{{}}}),
		"skips nothing":     ledger.NewEntry(id, 2, model.Digest{}, &ledger.RoundsSkipped{From: 1, To: 0}),
		"for ever":          ledger.NewEntry(id, 2, model.Digest{}, &ledger.SessionOpened{Config: ledger.Config{LostAfter: 1<<53 + 1}}),
	} {
		if _, err := ledger.DecodeEntry(e.Raw); !errors.Is(err, ledger.ErrEncoding) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Lengths that lie cost no memory.
func TestHostileLengths(t *testing.T) {
	vectors := ledger.NewEntry(ledger.LogID{1}, 2, model.Digest{}, &ledger.RoundSealed{Cut: ledger.Vector{}}).Raw
	logs := ledger.NewEntry(ledger.LogID{1}, 2, model.Digest{}, &ledger.PeerForgotten{}).Raw
	text := ledger.NewEntry(ledger.LogID{1}, 2, model.Digest{}, &ledger.PeerJoined{}).Raw
	for name, raw := range map[string][]byte{
		"vector":      slices.Concat(vectors[:len(vectors)-1], []byte{0xdd, 0xff, 0xff, 0xff, 0xfe}),
		"long vector": slices.Concat(vectors[:len(vectors)-1], []byte{0xdd, 0, 0x0f, 0, 0}, make([]byte, 1<<20-200)),
		"logs":        slices.Concat(logs[:len(logs)-1], []byte{0xdd, 0, 0x0f, 0, 0}, make([]byte, 1<<20-200)),
		"text":        slices.Concat(text[:len(text)-2], []byte{0xdb, 0xff, 0xff, 0xff, 0xff}),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := ledger.DecodeEntry(raw)
		runtime.ReadMemStats(&after)
		if !errors.Is(err, ledger.ErrEncoding) {
			t.Errorf("%s: %v", name, err)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > 3<<20 {
			t.Errorf("%s: %d bytes were allocated for %d", name, n, len(raw))
		}
	}
}

func FuzzDecode(f *testing.F) {
	id, d := ledger.LogID{1, 2}, model.Sum([]byte("d"))
	for _, b := range []ledger.Body{
		&ledger.PeerJoined{Name: "a", Mesh: "m"},
		&ledger.ForgetAcknowledged{Proposal: ledger.Ref{Log: id, Seq: 3}, Upto: ledger.Vector{id: 4}},
		&ledger.SessionOpened{Session: d, Name: "s", Config: ledger.Config{Params: []ledger.Param{{Name: "p", Value: "v"}}}, Members: []ledger.LogID{id}},
		&ledger.UpdateHeld{Session: d, Combiner: "x", ID: "1", Weight: 300, Norm: 0.5, Metrics: []ledger.Metric{{Name: "loss", Value: 1}}},
		&ledger.RoundSealed{Session: d, Round: 70000, Cut: ledger.Vector{id: 1, {9}: 1 << 40}},
		&ledger.RoundsSkipped{Session: d, From: 1, To: 2, Seen: ledger.Vector{id: 1}, Inputs: []model.Digest{d, d}},
		&ledger.RoundComputed{Session: d, Round: 1, Inputs: d, Result: ledger.Result{Model: d}, Seen: ledger.Vector{id: 6}},
	} {
		f.Add(ledger.NewEntry(id, 7, d, b).Raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) { checkCanonical(t, raw) })
}
