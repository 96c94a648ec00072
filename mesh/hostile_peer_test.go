package mesh_test

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/fedmesh/fedmesh/mesh"
	"github.com/fedmesh/fedmesh/mesh/api"
)

const kindPeer api.ProblemType = "peer" // what the peers' own interface answers with where the public one has no word

func tagged(more ...string) http.Header {
	h := http.Header{"Fedmesh-Mesh": {"fedmesh/1"}}
	for i := 0; i+1 < len(more); i += 2 {
		h.Set(more[i], more[i+1])
	}
	return h
}

// base is the digest of session s's model.
func (v *victim) base() string {
	v.t.Helper()
	info, err := v.peer.Session("s")
	if err != nil {
		v.t.Fatal(err)
	}
	return info.Model
}

// key is the key of session s.
func (v *victim) key() string {
	v.t.Helper()
	info, err := v.peer.Session("s")
	if err != nil {
		v.t.Fatal(err)
	}
	return info.Key
}

// copyHead is the head of a request to hold a copy.
func (v *victim) copyHead(body []byte, offer string) string {
	v.t.Helper()
	return copyHead(v.key(), body, offer)
}

func copyHead(session string, body []byte, offer string) string {
	return fmt.Sprintf("PUT /v1/peer/updates/%s/y HTTP/1.1\r\nHost: a\r\nFedmesh-Mesh: fedmesh/1\r\nFedmesh-Update: %s\r\nContent-Length: %d\r\n\r\n", session, offer, len(body))
}

// state is what a peer sends that exchanges entries.
func state(pairs ...uint64) []byte {
	b := make([]byte, 16)
	b[0] = 0xee
	b = binary.BigEndian.AppendUint32(b, uint32(len(pairs)))
	for i, seq := range pairs {
		id := make([]byte, 16)
		id[15] = byte(i)
		b = binary.BigEndian.AppendUint64(append(b, id...), seq)
	}
	return b
}

type labelEntry struct {
	_msgpack struct{} `msgpack:",as_array"` //nolint:unused // read by the encoder

	Combiner, ID string
	Model        []byte
	Weight       uint64
}

type sumBody struct {
	_msgpack struct{} `msgpack:",as_array"` //nolint:unused // read by the encoder

	Label    []labelEntry
	From, To int64
}

func packed(t *testing.T, body any) []byte {
	t.Helper()
	b, err := msgpack.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestHostilePeers(t *testing.T) {
	v := newVictim(t)
	good := tensorFile(goodModel())
	v.openSession(good)
	got := v.send(attack{query: "weight=3&id=u", body: good})
	var receipt api.Receipt
	unmarshal(t, got.body, &receipt)
	held, err := hex.DecodeString(receipt.Digest)
	if err != nil || got.status != http.StatusCreated {
		t.Fatal(err, string(got.body))
	}
	key, base, unknown := v.key(), v.base(), strings.Repeat("ab", 32)

	post := func(name, path string, body []byte, status int, kind api.ProblemType, words ...string) attack {
		return attack{name: name, method: http.MethodPost, path: "/v1/peer/" + path, header: tagged(), body: body, status: status, kind: kind, words: words}
	}
	entries := func(name string, body []byte, words ...string) attack {
		return post("entries: "+name, "entries", body, http.StatusBadRequest, kindPeer, words...)
	}
	sums := func(name string, body []byte, words ...string) attack {
		return post("sums: "+name, "sums/"+key, body, http.StatusBadRequest, kindPeer, words...)
	}
	label := []labelEntry{{Combiner: "x", ID: "u", Model: held, Weight: 3}}
	other := labelEntry{Combiner: "x", ID: "v", Model: held, Weight: 1}
	n := int64(300 + 1 + 128 + 72*128 + 16 + 16)
	lie := func(code byte, n uint32) []byte { return binary.BigEndian.AppendUint32([]byte{0x93, code}, n) }
	unsorted := state(1, 1)
	copy(unsorted[20:], unsorted[44:60])

	attacks := []attack{
		entries("empty", nil, "0 bytes"),
		entries("garbage", []byte(strings.Repeat("garbage", 100)), "pairs"),
		entries("cut", state(1, 2, 3)[:50], "3 pairs"),
		entries("a count of 2^32-1", append(state()[:16], 255, 255, 255, 255), "4294967295 pairs"),
		entries("a log twice", unsorted, "order"),
		entries("sequence number 0", state(0), "zero"),
		post("entries: 2 MiB", "entries", make([]byte, 2<<20), http.StatusRequestEntityTooLarge, api.TypeTooLarge, "1048576"),

		sums("empty", nil, "damaged"),
		sums("garbage", []byte("garbage"), "damaged"),
		sums("2^32-1 updates", lie(0xdd, math.MaxUint32), "damaged", "array"),
		sums("a map of 2^32-1 fields", lie(0xdf, math.MaxUint32), "damaged"),
		sums("nested 4 million deep", []byte("\x94"+strings.Repeat("\x91", 4<<20)), "damaged"),
		sums("bytes behind", append(packed(t, sumBody{Label: label, To: n}), 0), "1 bytes follow"),
		sums("negative range", packed(t, sumBody{Label: label, From: -5, To: n}), "elements"),
		sums("reversed range", packed(t, sumBody{Label: label, From: 5, To: 1}), "elements 5 to 1"),
		sums("range beyond the model", packed(t, sumBody{Label: label, To: n + 1}), fmt.Sprint(n), fmt.Sprint(n+1)),
		sums("range of 2^63-1", packed(t, sumBody{Label: label, To: math.MaxInt64}), fmt.Sprint(n)),
		post("sums: an update that is not here", "sums/"+key, packed(t, sumBody{Label: []labelEntry{{Combiner: "x", ID: "u", Model: make([]byte, 32), Weight: 3}}, To: n}), http.StatusNotFound, kindPeer, "x/u"),
		sums("an update twice", packed(t, sumBody{Label: append(slices.Clone(label), label[0]), To: n}), "x/u", "twice"),
		sums("out of order", packed(t, sumBody{Label: []labelEntry{other, label[0]}, To: n}), "order"),
		sums("weight 0", packed(t, sumBody{Label: []labelEntry{{Combiner: "x", ID: "u", Model: held}}, To: n}), "weight 0", "x/u"),
		sums("weight 2^38", packed(t, sumBody{Label: []labelEntry{{Combiner: "x", ID: "u", Model: held, Weight: 1 << 38}}, To: n}), "weight 274877906944"),
		sums("a digest of 5 bytes", packed(t, sumBody{Label: []labelEntry{{Combiner: "x", ID: "u", Model: held[:5], Weight: 3}}, To: n}), "5 bytes"),
		post("sums: unknown session", "sums/"+unknown, packed(t, sumBody{Label: label, To: n}), http.StatusNotFound, api.TypeUnknownSession, unknown[:16]),
		post("sums: session that is no key", "sums/s", packed(t, sumBody{Label: label, To: n}), http.StatusBadRequest, api.TypeInvalidRequest, "digest"),
		post("sums: 16 MiB", "sums/"+key, make([]byte, 16<<20), http.StatusRequestEntityTooLarge, api.TypeTooLarge),

		post("seed: unknown session", "sessions/"+unknown, nil, http.StatusNotFound, api.TypeUnknownSession, unknown[:16]),
		post("seed: session that is no key", "sessions/..%2Fx", nil, http.StatusBadRequest, api.TypeInvalidRequest, "digest"),
		post("seed: model that is no digest", "sessions/"+key+"?model=x", nil, http.StatusBadRequest, kindPeer, "digest"),
	}
	hold := func(name, offer string, body []byte, status int, kind api.ProblemType, words ...string) attack {
		return attack{name: "copy: " + name, path: "/v1/peer/updates/" + key + "/y", query: " ", header: tagged("Fedmesh-Update", offer), body: body, status: status, kind: kind, words: words}
	}
	offer := func(fields string) string { return `{"base":"` + base + `",` + fields + `}` }
	of := func(combiner string, a attack) attack {
		a.path = "/v1/peer/updates/" + key + "/" + combiner
		return a
	}
	fine := offer(`"id":"u","weight":1`)
	attacks = append(
		attacks,
		hold("no header", "", good, http.StatusBadRequest, kindPeer, "Fedmesh-Update"),
		hold("header that is no JSON", "hello", good, http.StatusBadRequest, kindPeer, "Fedmesh-Update"),
		hold("weight -1", offer(`"id":"u","weight":-1`), good, http.StatusBadRequest, kindPeer, "weight"),
		hold("weight 0", offer(`"id":"u"`), good, http.StatusBadRequest, api.TypeInvalidRequest, "weight 0"),
		hold("weight 2^41", offer(`"id":"u","weight":2199023255552`), good, http.StatusBadRequest, api.TypeInvalidRequest, "weight 2199023255552"),
		hold("base that is no digest", `{"weight":1,"base":"x"}`, good, http.StatusBadRequest, kindPeer, "digest"),
		hold("unknown base", `{"weight":1,"base":"`+unknown+`"}`, good, http.StatusServiceUnavailable, kindPeer, unknown[:8]),
		hold("base of a round to come", offer(`"id":"u","weight":1,"base_round":99`), good, http.StatusServiceUnavailable, api.TypeUnavailable, "round 99"),
		hold("id with a slash", offer(`"id":"a/b","weight":1`), good, http.StatusBadRequest, api.TypeInvalidRequest, "a/b"),
		hold("id of 300 characters", offer(`"id":"`+strings.Repeat("n", 300)+`","weight":1`), good, http.StatusBadRequest, api.TypeInvalidRequest, "300 bytes"),
		hold("metric of no name", offer(`"metrics":{"":1},"weight":1`), good, http.StatusBadRequest, api.TypeInvalidRequest, "metric"),
		of("x%2Fy", hold("combiner with a slash", fine, good, http.StatusBadRequest, api.TypeInvalidRequest, "x/y")),
		of("%C3%A9", hold("combiner in unicode", fine, good, http.StatusBadRequest, api.TypeInvalidRequest, `\u00e9`)),
		hold("no body", fine, nil, http.StatusBadRequest, api.TypeUnreadableModel, "empty"),
		hold("truncated", fine, good[:20_000], http.StatusBadRequest, api.TypeUnreadableModel, "truncated"),
		hold("wrong layout", fine, tensorFile(goodModel()[:5]), http.StatusUnprocessableEntity, api.TypeWrongLayout, "half"),
		hold("NaN", fine, tensorFile(changed("double", value(9, f64bits(math.NaN())...))), http.StatusUnprocessableEntity, api.TypeInvalidValue, "double", "element 9"),
		of("x", hold("other bytes under a key", offer(`"id":"u","weight":3`), tensorFile(changed("half", value(0, 0, 0))), http.StatusConflict, api.TypeUpdateConflict, "other bytes")),
		hold("bytes that do not match its digest", offer(`"id":"u","weight":1,"model":"`+receipt.Digest+`"`), tensorFile(changed("half", value(0, 0, 0))), http.StatusUnprocessableEntity, kindPeer, "digest"),
	)
	get := func(name, path string, status int, words ...string) attack {
		return attack{name: name, method: http.MethodGet, path: "/v1/peer/" + path, header: tagged(), status: status, kind: kindPeer, words: words}
	}
	attacks = append(
		attacks,
		get("blobs: no digest", "blobs/xyz", http.StatusBadRequest, "digest"),
		get("blobs: a path", "blobs/..%2F..%2Fidentity.json", http.StatusBadRequest, "digest"),
		get("blobs: unknown", "blobs/"+unknown, http.StatusNotFound, unknown[:8]),
	)
	for _, tag := range []string{"", "fedmesh", "fedmesh/2", "other/1"} {
		a := get("of another mesh", "blobs/"+receipt.Digest, http.StatusMisdirectedRequest, `"fedmesh/1"`, fmt.Sprintf("%q", tag))
		a.header = http.Header{"Fedmesh-Mesh": {tag}}
		attacks = append(attacks, a)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for _, a := range attacks {
		a.query = strings.TrimSpace(a.query)
		v.suffer(a)
	}
	runtime.ReadMemStats(&after)
	if used := (after.TotalAlloc - before.TotalAlloc) >> 20; used > 512 {
		t.Errorf("%d MB allocated", used)
	}
	v.serves(good)
}

// What is strange and yet within the rules is answered, and costs no more than it brings.
func TestHostilePeersThatKeepTheRules(t *testing.T) {
	v := newVictim(t)
	good := tensorFile(goodModel())
	v.openSession(good)
	got := v.send(attack{query: "weight=3&id=u", body: good})
	var receipt api.Receipt
	unmarshal(t, got.body, &receipt)
	held, err := hex.DecodeString(receipt.Digest)
	if err != nil {
		t.Fatal(err)
	}
	before := v.listing()
	// A peer that knows it all, of logs that nobody has.
	for range 3 {
		got = v.send(attack{method: http.MethodPost, path: "/v1/peer/entries", header: tagged(), body: state(math.MaxUint64, 1, math.MaxUint64-1)})
		if got.status != http.StatusOK || len(got.body) < 24 {
			t.Errorf("entries: %d, %d bytes", got.status, len(got.body))
		}
	}
	// As many updates as a label may have, all with the same bytes: one open file, not 16,384.
	var many []labelEntry
	for i := range 1 << 14 {
		many = append(many, labelEntry{Combiner: "x", ID: fmt.Sprintf("%05d", i), Model: held, Weight: 1})
	}
	got = v.send(attack{method: http.MethodPost, path: "/v1/peer/sums/" + v.key(), header: tagged(), body: packed(t, sumBody{Label: many, From: 0, To: 1})})
	if got.status != http.StatusOK || len(got.body) < 2 || len(got.body) > 2+16 {
		t.Errorf("sums: %d %x", got.status, got.body)
	}
	for _, r := range []string{"bytes=0-0", "bytes=100-50", "bytes=99999999-", "bytes=-5", "bytes=0-99999999999999999999", "hello", "bytes=" + strings.Repeat("0-1,", 5000) + "0-1"} {
		got = v.send(attack{method: http.MethodGet, path: "/v1/peer/blobs/" + receipt.Digest, header: tagged("Range", r)})
		if got.status/100 != 2 && got.status != http.StatusRequestedRangeNotSatisfiable || len(got.body) > 1<<20 {
			t.Errorf("range %.40s: %d, %d bytes", r, got.status, len(got.body))
		}
	}
	if after := v.listing(); after != before {
		t.Errorf("the data directory changed from\n%sto\n%s", before, after)
	}
	if err := v.peer.Ready(); err != nil {
		t.Error(err)
	}
	v.serves(good)
}

// Strangers that tell what they hold leave nothing in memory.
func TestHostilePeersAreNotRemembered(t *testing.T) {
	v := newVictim(t)
	pairs := make([]uint64, 256) // distinct logs: their ids differ in the last byte
	for i := range pairs {
		pairs[i] = math.MaxUint64
	}
	one := state(pairs...)
	// A state of nearly 1 MiB: the same logs again with another first byte.
	big := one[:20:20]
	n := 0
	for first := range 170 {
		for i := range pairs {
			pair := slices.Clone(one[20+24*i : 20+24*(i+1)])
			pair[0] = byte(first)
			big = append(big, pair...)
			n++
		}
	}
	binary.BigEndian.PutUint32(big[16:], uint32(n))
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	for i := range 50 {
		big[0], big[1] = 0xdd, byte(i) // another caller
		if got := v.send(attack{method: http.MethodPost, path: "/v1/peer/entries", header: tagged(), body: big}); got.status != http.StatusOK {
			t.Fatalf("%d %s", got.status, got.body)
		}
	}
	if after := heap(); after > before+16<<20 {
		t.Errorf("50 strangers left %d MB in memory", (after-before)>>20)
	}
}

// A peer that stops in the middle of a copy holds up neither a goroutine nor a file for ever.
func TestHostilePeerThatHangs(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.tune = func(cfg *mesh.Config) { cfg.StallAfter = 300 * time.Millisecond }
		c.up("a")
		good := tensorFile(goodModel())
		info := c.open("a", "s", good, func(s *api.SessionConfig) { s.Copies, s.TargetCombiners, s.RoundTimeout = 1, 1000, seconds(3600) })
		before := c.blobs("a")
		synctest.Wait()
		goroutines := runtime.NumGoroutine()
		conns := make([]net.Conn, 5)
		for i := range conns {
			var err error
			if conns[i], err = c.dialer("x")(t.Context(), "tcp", "a:80"); err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(conns[i], copyHead(info.Key, good, `{"id":"u","weight":1,"base":"`+info.Model+`"}`)+string(good[:20_000])); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if now := c.blobs("a"); len(now) != len(before)+len(conns) {
			t.Errorf("%d hang, and of them are stored %v beside %v", len(conns), now, before)
		}
		time.Sleep(time.Second) // twice StallAfter, and a little
		if now := c.blobs("a"); !slices.Equal(now, before) {
			t.Errorf("of those who hang %v are left beside %v", now, before)
		}
		time.Sleep(time.Second) // as long again for the rest of what they send, if it comes
		for _, conn := range conns {
			_ = conn.SetReadDeadline(time.Now().Add(time.Millisecond))
			if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("the connection of one who hangs is kept")
			}
			_ = conn.Close()
		}
		synctest.Wait()
		if now := runtime.NumGoroutine(); now > goroutines {
			t.Errorf("%d goroutines, there were %d", now, goroutines)
		}
		c.push("a", "s", weighted("x", 1), good)
	})
}
