package mesh

import (
	"bytes"
	"encoding/binary"
	"math"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/fedmesh/fedmesh/mesh/ledger"
	"github.com/fedmesh/fedmesh/mesh/store"
	"github.com/fedmesh/fedmesh/mesh/upload"
	"github.com/fedmesh/fedmesh/model"
)

// What a decoder may allocate for n bytes from outside: perByte*n + constant.
const (
	perByte  = 64
	constant = 2 << 20
)

// bounded runs a decoder and checks what it allocates for its input.
func bounded(t *testing.T, input []byte, decode func()) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	decode()
	runtime.ReadMemStats(&after)
	if used, limit := after.TotalAlloc-before.TotalAlloc, uint64(perByte*len(input)+constant); used > limit {
		t.Fatalf("%d bytes allocated for an input of %d, at most %d are allowed", used, len(input), limit)
	}
}

// lies are encodings whose lengths promise far more than follows, or which are nested deeply.
func lies() [][]byte {
	array32 := func(n uint32) []byte { return binary.BigEndian.AppendUint32([]byte{0xdd}, n) }
	map32 := func(n uint32) []byte { return binary.BigEndian.AppendUint32([]byte{0xdf}, n) }
	bin32 := func(n uint32) []byte { return binary.BigEndian.AppendUint32([]byte{0xc6}, n) }
	str32 := func(n uint32) []byte { return binary.BigEndian.AppendUint32([]byte{0xdb}, n) }
	session := append([]byte{0xc4, 32}, make([]byte, 32)...)
	var out [][]byte
	for _, n := range []uint32{10_000_000, math.MaxInt32, math.MaxUint32} {
		for _, lie := range [][]byte{array32(n), map32(n), bin32(n), str32(n)} {
			out = append(out, lie,
				append([]byte{0x93}, lie...),                                                 // the first field
				append(append(append([]byte{0x96}, session...), 1), lie...),                  // a label
				append(append(append([]byte{0x96}, session...), 1, 0x90, 0, 0x90), lie...),   // a sum
				append([]byte{0x93, 0x91, 0x94}, lie...),                                     // a combiner
				append([]byte{0x81, 0xa5, 'L', 'a', 'b', 'e', 'l'}, lie...),                  // fields by name
				append([]byte{0x94, 0x90, 0, 0}, lie...),                                     // a field too many
				append([]byte{0x82, 0xa5, 'L', 'a', 'b', 'e', 'l', 0x90, 0xa1, 'x'}, lie...)) // an unknown one
		}
	}
	deep := strings.Repeat("\x91", 300_000)
	return append(out, []byte(deep), []byte("\x81\xa1x"+deep), []byte("\x94\x90\x00\x00"+deep))
}

func someLabel() []labelled {
	us := []*ledger.UpdateHeld{
		{Combiner: "a", ID: "1", Model: model.Sum([]byte("1")), Weight: 1},
		{Combiner: "a", ID: "2", Model: model.Sum([]byte("2")), Weight: ledger.MaxWeight - 300},
		{Combiner: "b", ID: "1", Model: model.Sum([]byte("3")), Weight: 299},
	}
	return labelOf(us)
}

func addAll(f *testing.F, seeds ...[]byte) {
	for _, s := range append(seeds, []byte{}, []byte{0xc0}, bytes.Repeat([]byte{0xff}, 40)) {
		f.Add(s)
		if len(s) > 1 {
			f.Add(s[:len(s)-1])
			f.Add(append(bytes.Clone(s), 0))
		}
	}
	for _, l := range lies() {
		if len(l) < 100 {
			f.Add(l)
		}
	}
}

func TestDecodersDoNotTrustLengths(t *testing.T) {
	for name, decode := range map[string]func([]byte) error{
		"member":  func(b []byte) error { _, err := decodeMeta(b); return err },
		"partial": func(b []byte) error { _, err := decodePartial(b); return err },
		"request": func(b []byte) error { _, err := decodeSumRequest(b); return err },
		"state":   func(b []byte) error { _, _, err := decodeState(b); return err },
		"entry":   func(b []byte) error { _, err := ledger.DecodeEntry(b); return err },
		"frame":   func(b []byte) error { _, err := readFrame(bytes.NewReader(b)); return err },
	} {
		t.Run(name, func(t *testing.T) {
			for _, l := range lies() {
				bounded(t, l, func() {
					if err := decode(l); err == nil {
						t.Errorf("%x... (%d bytes) was taken for something", l[:min(len(l), 40)], len(l))
					}
				})
			}
		})
	}
}

func FuzzMeta(f *testing.F) {
	addAll(f, encodeMeta(&meta{Protocol: protocol, Log: ledger.LogID{1, 2, 3}, API: "127.0.0.1:8080"}))
	f.Fuzz(func(t *testing.T, b []byte) {
		bounded(t, b, func() {
			m, err := decodeMeta(b)
			if err != nil {
				return
			}
			again, err := decodeMeta(encodeMeta(m))
			if err != nil || *again != *m {
				t.Fatalf("%+v becomes %+v, %v", m, again, err)
			}
		})
	})
}

func FuzzPartial(f *testing.F) {
	session := model.Sum([]byte("session"))
	addAll(f, encodePartial(&partial{Session: session, Round: 7, Label: someLabel(), Weight: ledger.MaxWeight, Sum: make([]byte, 48), Metrics: []weighted{{Name: "loss", Sum: 0.5}}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		bounded(t, b, func() {
			p, err := decodePartial(b)
			if err != nil {
				return
			}
			again, err := decodePartial(encodePartial(p))
			if err != nil || !reflect.DeepEqual(p, again) {
				t.Fatalf("%+v becomes %+v, %v", p, again, err)
			}
		})
	})
}

func FuzzSumRequest(f *testing.F) {
	addAll(f, encodeSumRequest(&sumRequest{Label: someLabel(), From: 3, To: 1 << 40}))
	f.Fuzz(func(t *testing.T, b []byte) {
		bounded(t, b, func() {
			r, err := decodeSumRequest(b)
			if err != nil {
				return
			}
			again, err := decodeSumRequest(encodeSumRequest(r))
			if err != nil || !reflect.DeepEqual(r, again) {
				t.Fatalf("%+v becomes %+v, %v", r, again, err)
			}
		})
	})
}

func FuzzState(f *testing.F) {
	addAll(f, encodeState(ledger.LogID{1}, ledger.Vector{{1}: 5, {2}: math.MaxUint64}), encodeState(ledger.LogID{1}, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		bounded(t, b, func() {
			log, v, err := decodeState(b)
			if err != nil {
				return
			}
			if again := encodeState(log, v); !bytes.Equal(again, b) {
				t.Fatalf("%x becomes %x", b, again)
			}
		})
	})
}

func FuzzAnswer(f *testing.F) {
	log := ledger.LogID{1, 2, 3}
	e := ledger.NewEntry(log, 1, model.Digest{}, &ledger.PeerJoined{Name: "a", Mesh: "m"})
	state := encodeState(log, ledger.Vector{log: 1})
	frame := func(b []byte) []byte { return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...) }
	head := append(frame(state), frame(bases{of: map[ledger.SessionKey]uint64{{1}: 7}}.encode())...)
	addAll(f, head, slices.Concat(head, frame(e.Raw)), slices.Concat(head, frame([]byte("x"))), frame(state))
	f.Fuzz(func(t *testing.T, b []byte) {
		bounded(t, b, func() {
			a, err := readAnswer(bytes.NewReader(b))
			if err != nil {
				return
			}
			again := slices.Concat(frame(encodeState(a.log, a.vector)), frame(a.bases.encode()))
			for _, e := range a.entries {
				again = append(again, frame(e.Raw)...)
			}
			if !bytes.Equal(again, b) {
				t.Fatalf("%x becomes %x", b, again)
			}
		})
	})
}

func FuzzOffer(f *testing.F) {
	addAll(f,
		[]byte(`{"id":"u","weight":3,"base":"`+strings.Repeat("ab", 32)+`","base_round":1,"metrics":{"loss":0.5}}`),
		[]byte(`{"weight":3,"upload":"`+strings.Repeat("ab", 16)+`","length":7}`), []byte(`{"weight":3,"upload":"../x","length":-1}`),
		[]byte(`{"weight":-1}`), []byte(`{"weight":1e30}`), []byte(`{"id":"../x"}`), []byte(`{"metrics":{"`+strings.Repeat("x", 300)+`":1}}`), []byte(`null`))
	f.Fuzz(func(t *testing.T, b []byte) {
		bounded(t, b, func() {
			o, err := parseOffer(string(b), "combiner")
			if err != nil {
				return
			}
			if o.Upload != "" && (upload.CheckName(o.Upload) != nil || o.Length < 1) {
				t.Fatalf("%+v names no upload", o)
			}
			// Whatever passes makes an entry that every peer can read.
			u := o.update(model.Sum(b), 1)
			e := ledger.NewEntry(ledger.LogID{1}, 2, model.Sum(nil), u)
			if _, err := ledger.DecodeEntry(e.Raw); err != nil {
				t.Fatalf("%+v makes an entry that cannot be read: %v", o, err)
			}
		})
	})
}

// FuzzGossip feeds a peer what gossip may bring: messages, and states at joining.
func FuzzGossip(f *testing.F) {
	log := ledger.LogID{1, 2, 3}
	joined := ledger.NewEntry(log, 1, model.Digest{}, &ledger.PeerJoined{Name: "a", Mesh: "m"})
	sealed := ledger.NewEntry(log, 2, model.Sum(joined.Raw), &ledger.RoundSealed{Round: math.MaxUint64, Cut: ledger.Vector{log: 1}})
	sum := encodePartial(&partial{Label: someLabel(), Weight: ledger.MaxWeight, Sum: make([]byte, 16)})
	state := encodeState(log, ledger.Vector{log: math.MaxUint64})
	for _, s := range [][]byte{joined.Raw, sealed.Raw, sum, state} {
		for _, kind := range []byte{msgEntry, msgPartial, 3} {
			f.Add(append([]byte{kind}, s...))
		}
	}
	for _, l := range lies() {
		if len(l) < 100 {
			f.Add(append([]byte{msgPartial}, l...))
		}
	}
	cfg := DefaultConfig()
	cfg.Name, cfg.API, cfg.DataDir, cfg.Fsync = "a", "127.0.0.1:1", f.TempDir(), store.Never
	p, err := New(cfg)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		if err := p.Close(); err != nil {
			f.Error(err)
		}
	})
	h := (*gossipHandler)(p)
	f.Fuzz(func(t *testing.T, b []byte) {
		bounded(t, b, func() {
			h.Message(b)
			h.RemoteState(b)
		})
		p.mu.Lock()
		broken := p.broken
		p.mu.Unlock()
		if broken != nil {
			t.Fatalf("the peer is out of service: %v", broken)
		}
		if _, _, err := decodeState(h.LocalState()); err != nil {
			t.Fatal(err)
		}
	})
}
