package mesh_test

import (
	"archive/zip"
	"bufio"
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"math/rand/v2"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fedmesh/fedmesh/mesh"
	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/store"
	"github.com/fedmesh/fedmesh/model"
)

func TestHostileModels(t *testing.T) {
	v := newVictim(t)
	good := tensorFile(goodModel())
	v.openSession(good)
	v.serves(good)
	v.serves(archive(t, zip.Store, npzMembers(goodModel())...))
	v.serves(archive(t, zip.Deflate, npzMembers(goodModel())...))

	noise := make([]byte, 50_000)
	rng := rand.New(rand.NewPCG(5, 6))
	for i := range noise {
		noise[i] = byte(rng.Uint32())
	}
	spoilt := func(name string, f func(a *array)) []byte { return tensorFile(changed(name, f)) }
	spoiltNPZ := func(name string, f func(a *array)) []byte {
		return archive(t, zip.Deflate, npzMembers(changed(name, f))...)
	}
	bad := func(name string, body []byte, status int, kind api.ProblemType, words ...string) attack {
		return attack{name: name, body: body, status: status, kind: kind, words: words}
	}
	unreadable := func(name string, body []byte, words ...string) attack {
		return bad(name, body, http.StatusBadRequest, api.TypeUnreadableModel, words...)
	}
	tooLarge := func(name string, body []byte, words ...string) attack {
		return bad(name, body, http.StatusRequestEntityTooLarge, api.TypeTooLarge, words...)
	}
	layout := func(name string, body []byte, words ...string) attack {
		return bad(name, body, http.StatusUnprocessableEntity, api.TypeWrongLayout, words...)
	}
	invalid := func(name string, body []byte, tensor string, index int, value string) attack {
		a := bad(name, body, http.StatusUnprocessableEntity, api.TypeInvalidValue, fmt.Sprintf("tensor %q, element %d is %.4s", tensor, index, value), "values must be finite")
		a.extra = map[string]any{"tensor": tensor, "index": index}
		return a
	}
	replaced := func(name string, with ...zipped) []byte {
		var out []zipped
		for _, m := range npzMembers(goodModel()) {
			if m.name == name+".npy" {
				out = append(out, with...)
				continue
			}
			out = append(out, m)
		}
		return archive(t, zip.Store, out...)
	}
	count := zipped{"count.npy", npy("<i8", "(1,)", make([]byte, 8))}
	as := goodModel()
	offsets := func(offsets string) []byte {
		return rawTensorFile(tensorMember("a", "F32", []int{2}, "[0,8]")+","+tensorMember("b", "F32", []int{2}, offsets), make([]byte, 16))
	}
	huge := binary.LittleEndian.AppendUint64(nil, 1<<60)

	attacks := []attack{
		unreadable("empty", nil, "empty"),
		unreadable("random bytes", noise, "no known format", "safetensors or npz"),
		unreadable("a word", []byte("x"), "no known format"),
		unreadable("a pickle", []byte("\x80\x04\x95garbage..."), "pickle"),
		unreadable("gzip", []byte("\x1f\x8b\x08\x00garbage."), "gzip"),
		unreadable("a single npy", count.data, "numpy.savez"),

		tooLarge("header of 2^60 bytes", append(huge, '{', '}'), "1152921504606846976", "header"),
		unreadable("header that is no JSON", rawTensorFile(`"a"`, nil), "header at byte"),
		unreadable("negative offset", offsets("[-8,0]"), `"b"`, "data_offsets"),
		unreadable("offsets out of range", offsets("[8,64]"), `"b"`, "56 bytes", "needs 8"),
		tooLarge("offsets beyond 64 bits", offsets("[18446744073709551616,18446744073709551624]"), `"b"`),
		unreadable("overlapping offsets", offsets("[4,12]"), `"b"`, "overlap", `"a"`),
		unreadable("offsets with a hole", offsets("[12,20]"), `"b"`, "hole of 4 bytes"),
		unreadable("reversed offsets", offsets("[16,8]"), `"b"`),
		tooLarge("a shape whose product overflows", rawTensorFile(tensorMember("a", "F32", []uint64{1 << 32, 1 << 32}, "[0,0]"), nil), `"a"`),
		unreadable("a negative dimension", rawTensorFile(tensorMember("a", "F32", []int{-1}, "[0,0]"), nil), `"a"`),
		unreadable("the same tensor twice", rawTensorFile(tensorMember("a", "F32", []int{2}, "[0,8]")+","+tensorMember("a", "F32", []int{2}, "[8,16]"), make([]byte, 16)), `"a"`),
		unreadable("an unknown dtype", rawTensorFile(tensorMember("a", "F31", []int{2}, "[0,8]"), make([]byte, 8)), `"a"`, "F31"),
		unreadable("bytes behind the last tensor", append(bytes.Clone(good), 0), "bytes follow"),

		unreadable("object array", replaced("count", zipped{"count.npy", npy("|O", "(1,)", []byte("\x80\x04N."))}), `"count"`, "objects"),
		unreadable("../ in a name", replaced("count", zipped{"../count.npy", count.data}), `"../count"`),
		unreadable("an absolute name", replaced("count", zipped{"/etc/passwd.npy", count.data}), `"/etc/passwd"`),
		unreadable("a member that is no array", replaced("count", zipped{"readme.txt", []byte("hello")}), "readme.txt", "numpy.savez"),
		unreadable("duplicate names", replaced("count", count, count), `"count"`, "two arrays"),
		tooLarge("npy shape whose product overflows", replaced("count", zipped{"count.npy", npy("<i8", "(4294967296, 4294967296)", nil)}), `"count"`),
		unreadable("npy with less data than its shape", replaced("count", zipped{"count.npy", npy("<i8", "(1,)", make([]byte, 4))}), `"count"`),

		layout("wrong shape", spoilt("dense.weight", func(a *array) { a.shape = []int64{128, 72} }), `"dense.weight"`, "[128,72]", "[72,128]"),
		layout("wrong dtype", spoilt("dense.bias", func(a *array) { a.dtype, a.shape = model.F64, []int64{64} }), `"dense.bias"`, "F64", "F32"),
		layout("no tensors", rawTensorFile("", nil), `"brain"`, "missing"),
		layout("missing tensor", tensorFile(as[:5]), `"half"`, "missing"),
		layout("extra tensor", tensorFile(append(goodModel(), array{"extra", model.I64, []int64{1}, make([]byte, 8)})), `"extra"`),
		layout("wrong shape in npz", spoiltNPZ("dense.weight", func(a *array) { a.shape = []int64{128, 72} }), `"dense.weight"`, "[128,72]", "[72,128]"),
		layout("missing array", archive(t, zip.Store, npzMembers(as[:5])...), `"half"`, "missing"),
		layout("extra array", archive(t, zip.Store, npzMembers(append(goodModel(), array{"extra", model.I64, []int64{1}, make([]byte, 8)}))...), `"extra"`),

		invalid("NaN", spoilt("dense.weight", value(1000, f32bits(math.NaN())...)), "dense.weight", 1000, "NaN"),
		invalid("Inf", spoilt("dense.weight", value(1001, f32bits(math.Inf(1))...)), "dense.weight", 1001, "+Inf"),
		invalid("-Inf", spoilt("dense.bias", value(127, f32bits(math.Inf(-1))...)), "dense.bias", 127, "-Inf"),
		invalid("1e30", spoilt("dense.weight", value(9215, f32bits(1e30)...)), "dense.weight", 9215, "1e+30"),
		invalid("float64 NaN", spoilt("double", value(299, f64bits(math.NaN())...)), "double", 299, "NaN"),
		invalid("float64 1e300", spoilt("double", value(0, f64bits(1e300)...)), "double", 0, "1e+300"),
		invalid("float16 NaN", spoilt("half", value(3, 0x01, 0x7c)), "half", 3, "NaN"),
		invalid("float16 Inf", spoilt("half", value(4, 0x00, 0xfc)), "half", 4, "-Inf"),
		invalid("bfloat16 NaN", spoilt("brain", value(5, 0xc0, 0x7f)), "brain", 5, "NaN"),
		invalid("bfloat16 1e30", spoilt("brain", value(15, 0x49, 0x71)), "brain", 15, "9.95"),
		invalid("NaN in npz", spoiltNPZ("dense.weight", value(4567, f32bits(math.NaN())...)), "dense.weight", 4567, "NaN"),
		invalid("bfloat16 NaN in npz", spoiltNPZ("brain", value(5, 0xc0, 0x7f)), "brain", 5, "NaN"),
	}
	for _, a := range attacks {
		v.suffer(a)
	}
	v.serves(good)
}

func TestHostileTruncations(t *testing.T) {
	v := newVictim(t)
	good := tensorFile(goodModel())
	v.openSession(good)
	for name, whole := range map[string][]byte{
		"safetensors": good, "npz": archive(t, zip.Store, npzMembers(goodModel())...), "deflated npz": archive(t, zip.Deflate, npzMembers(goodModel())...),
	} {
		if name == "deflated npz" && len(whole) < 3000 {
			t.Fatalf("%d bytes of %s are no test", len(whole), name)
		}
		for n := 1024; n < len(whole); n += 1024 {
			where := "truncated after"
			if name == "safetensors" {
				at := n - (len(whole) - goodBytes())
				for _, a := range goodModel() {
					if at < len(a.data) {
						where = fmt.Sprintf("tensor %q: truncated after %d of %d bytes", a.name, at, len(a.data))
						break
					}
					at -= len(a.data)
				}
			}
			v.suffer(attack{
				name: fmt.Sprintf("%s cut at %d of %d", name, n, len(whole)), body: whole[:n],
				status: http.StatusBadRequest, kind: api.TypeUnreadableModel, words: []string{where},
			})
		}
		v.suffer(attack{name: name + " without its last byte", body: whole[:len(whole)-1], status: http.StatusBadRequest, kind: api.TypeUnreadableModel, words: []string{"truncated"}})
	}
	v.serves(good)
}

// A deflated array that comes out thousands of times as long as it went in is refused before it has filled memory or disk.
func TestHostileBombs(t *testing.T) {
	disk := &measuredDisk{FS: store.OS()}
	v := newVictim(t, func(cfg *mesh.Config) { cfg.FS = disk })
	good := tensorFile(goodModel())
	v.openSession(good)
	const tenGB = 10 << 30
	all := max(inflating(t, tenGB), time.Minute) // without the race detector that would be less than a machine may stand still for
	honest := npy("<f4", fmt.Sprintf("(%d,)", tenGB/4), nil)
	fits := npy("<f4", "(72,128)", nil)
	seed := func(body []byte) attack {
		return attack{path: "/v1/sessions/other", header: formHeader, body: form("config", calm, "seed", string(body))}
	}
	for _, c := range []struct {
		attack
		name   string
		status int
		kind   api.ProblemType
		words  []string
	}{
		{attack{body: bomb(t, "dense.weight", honest, 1, tenGB+uint64(len(honest)))}, "an array of 10 GB", http.StatusUnprocessableEntity, api.TypeWrongLayout, []string{`"dense.weight"`, "2684354560"}},
		{attack{body: bomb(t, "dense.weight", fits, 10, 72*128*4+uint64(len(fits)))}, "right shape, 10 GB behind it", http.StatusRequestEntityTooLarge, api.TypeTooLarge, []string{`"dense.weight"`, "inflates to more than"}},
		{seed(bomb(t, "w", honest, 10, tenGB+uint64(len(honest)))), "a seed of 10 GB", http.StatusRequestEntityTooLarge, api.TypeTooLarge, []string{`"w"`, "inflate to more than", "numpy.savez"}},
	} {
		a := c.attack
		a.name, a.status, a.kind, a.words = c.name, c.status, c.kind, c.words
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		written := disk.written.Load()
		began := time.Now()
		v.suffer(a)
		took := time.Since(began)
		runtime.ReadMemStats(&after)
		used, written := after.TotalAlloc-before.TotalAlloc, disk.written.Load()-written
		if used > 64<<20 || written > 128<<20 || took > all/2 {
			t.Errorf("%s: refused after %v, %d MB of memory and %d MB of disk", a.name, took, used>>20, written>>20)
		}
	}
	v.serves(good)
}

// inflating is how long it takes here to inflate so much of a bomb, as measured on a part.
func inflating(t *testing.T, size int64) time.Duration {
	t.Helper()
	const part = 32 << 20
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestSpeed)
	if err == nil {
		_, err = w.Write(make([]byte, part))
	}
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if n, err := io.Copy(io.Discard, flate.NewReader(&b)); err != nil || n != part {
		t.Fatal(n, err)
	}
	return time.Since(began) * time.Duration(size/part)
}

// measuredDisk is a file system that counts the bytes that are written.
type measuredDisk struct {
	store.FS
	written atomic.Int64
}

func (d *measuredDisk) OpenFile(name string, flag int, perm fs.FileMode) (store.File, error) {
	f, err := d.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return measuredFile{f, d}, nil
}

type measuredFile struct {
	store.File
	disk *measuredDisk
}

func (f measuredFile) Write(b []byte) (int, error) {
	f.disk.written.Add(int64(len(b)))
	return f.File.Write(b)
}

func (f measuredFile) WriteAt(b []byte, off int64) (int, error) {
	f.disk.written.Add(int64(len(b)))
	return f.File.WriteAt(b, off)
}

func TestHostileRequests(t *testing.T) {
	v := newVictim(t)
	good := tensorFile(goodModel())
	v.openSession(good)
	long := strings.Repeat("n", 300)
	bad := func(name, path, query string, status int, kind api.ProblemType, words ...string) attack {
		return attack{name: name, path: path, query: query, body: good, status: status, kind: kind, words: words}
	}
	parameter := func(name, query, parameter string, words ...string) attack {
		a := bad(name, updatesOfX, query, http.StatusBadRequest, api.TypeInvalidRequest, words...)
		a.extra = map[string]any{"parameter": parameter}
		return a
	}
	misnamed := func(name, path, parameter string, words ...string) attack {
		a := bad(name, path, "weight=1", http.StatusBadRequest, api.TypeInvalidRequest, words...)
		a.extra = map[string]any{"parameter": parameter}
		return a
	}
	unknown := strings.Repeat("ab", 32)
	for _, a := range []attack{
		parameter("no weight", "", "weight", "missing", "weight=N"),
		parameter("weight 0", "weight=0", "weight", "weight is 0", "at least 1"),
		parameter("weight -1", "weight=-1", "weight", "weight is -1", "at least 1"),
		parameter("weight 2^41", "weight=2199023255552", "weight", "2199023255552", "2^38-1"),
		parameter("weight 2^70", "weight=1180591620717411303424", "weight", "1180591620717411303424", "out of range"),
		parameter("weight abc", "weight=abc", "weight", `"abc"`, "integer"),
		parameter("weight 1.5", "weight=1.5", "weight", `"1.5"`, "integer"),
		parameter("two weights", "weight=1&weight=2", "weight", "2 times"),
		parameter("a parameter that is not known", "weight=1&wieght=2", "wieght", "known: weight, base"),
		parameter("query that cannot be read", "weight=1&%zz", "query"),
		parameter("base that is no digest", "weight=1&base=xyz", "base", `"xyz"`, "64 hex digits"),
		parameter("base latest", "weight=1&base=latest", "base", "latest"),
		parameter("empty id", "weight=1&id=", "id", "empty"),
		parameter("id with a slash", "weight=1&id=a%2Fb", "id", `"a/b"`, "slash"),
		parameter("id of 300 characters", "weight=1&id="+long, "id", "300 bytes", "128"),
		parameter("id in unicode", "weight=1&id=%C3%A9", "id", `\u00e9`),
		parameter("metric NaN", "weight=1&metric.loss=NaN", "metric.loss", "loss", "finite"),
		parameter("metric with a slash", "weight=1&metric.a%2Fb=1", "metric.a/b", "a/b"),

		bad("unknown session", "/v1/sessions/nobody/updates/x", "weight=1", http.StatusNotFound, api.TypeUnknownSession, `"nobody"`),
		bad("unknown session key", "/v1/sessions/"+unknown+"/updates/x", "weight=1", http.StatusNotFound, api.TypeUnknownSession, unknown[:16]),
		bad("unknown base", updatesOfX, "weight=1&base="+unknown, http.StatusServiceUnavailable, api.TypeUnknownBase, unknown),
		bad("session with a slash", "/v1/sessions/s/t/updates/x", "weight=1", http.StatusNotFound, api.TypeUnknownRoute, "no slashes"),
		misnamed("session with an encoded slash", "/v1/sessions/s%2Ft/updates/x", "session", `"s/t"`, "'/'"),
		misnamed("session of 300 characters", "/v1/sessions/"+long+"/updates/x", "session", "300 bytes", "1 to 128"),
		misnamed("session in unicode", "/v1/sessions/s%C3%A9ance/updates/x", "session", `\u00e9`),
		misnamed("session with a newline", "/v1/sessions/s%0Ax/updates/x", "session", `\n`),
		misnamed("session that is no UTF-8", "/v1/sessions/%FF/updates/x", "session", "1 to 128"),
		misnamed("session with a dot", "/v1/sessions/.hidden/updates/x", "session", "starts with a dot"),
		misnamed("session ..", "/v1/sessions/%2E%2E/updates/x", "path", ".."),
		bad("combiner with a slash", updatesOfX+"/y", "weight=1", http.StatusNotFound, api.TypeUnknownRoute, "no slashes"),
		misnamed("combiner with an encoded slash", "/v1/sessions/s/updates/x%2Fy", "combiner", `"x/y"`, "'/'"),
		misnamed("combiner of 300 characters", "/v1/sessions/s/updates/"+long, "combiner", "300 bytes"),
		misnamed("combiner in unicode", "/v1/sessions/s/updates/%E2%82%AC", "combiner", `\u20ac`),
		misnamed("combiner ..", "/v1/sessions/s/updates/%2E%2E", "path", ".."),
	} {
		v.suffer(a)
	}
	for _, c := range []struct {
		method, path string
		status       int
		kind         api.ProblemType
	}{
		{http.MethodDelete, updatesOfX, http.StatusMethodNotAllowed, api.TypeMethodNotAllowed},
		{http.MethodPost, updatesOfX, http.StatusPreconditionFailed, api.TypeUnsupportedTus},
		{http.MethodPut, "/v1/nothing", http.StatusNotFound, api.TypeUnknownRoute},
		{http.MethodGet, "/v1/sessions/s%2Ft", http.StatusBadRequest, api.TypeInvalidRequest},
		{http.MethodGet, "/v1/sessions/" + long, http.StatusBadRequest, api.TypeInvalidRequest},
		{http.MethodGet, "/v1/sessions/nobody", http.StatusNotFound, api.TypeUnknownSession},
		{http.MethodGet, "/v1/sessions/s/models/" + unknown, http.StatusNotFound, api.TypeUnknownModel},
		{http.MethodGet, "/v1/sessions/s/models/99", http.StatusNotFound, api.TypeUnknownModel},
		{http.MethodGet, "/v1/sessions/s/models/-1", http.StatusBadRequest, api.TypeInvalidRequest},
		{http.MethodGet, "/v1/sessions/s/models/..%2F..%2Fidentity.json", http.StatusBadRequest, api.TypeInvalidRequest},
		{http.MethodGet, "/v1/sessions/s/rounds/18446744073709551616", http.StatusBadRequest, api.TypeInvalidRequest},
		{http.MethodGet, "/v1/sessions/s/rounds/99", http.StatusNotFound, api.TypeUnknownRound},
	} {
		v.suffer(attack{name: c.method + " " + c.path, method: c.method, path: c.path, status: c.status, kind: c.kind})
	}
	zipHeader := http.Header{"Content-Encoding": {"gzip"}}
	v.suffer(attack{name: "content encoding", header: zipHeader, body: good, status: http.StatusUnsupportedMediaType, kind: api.TypeUnsupportedMedia, words: []string{"gzip"}})

	// The same key with other bytes, another weight, another base.
	first := attack{query: "weight=3&id=u", body: good}
	got := v.send(first)
	if got.status != http.StatusCreated {
		t.Fatalf("%d %s", got.status, got.body)
	}
	var receipt api.Receipt
	unmarshal(t, got.body, &receipt)
	held := receipt.Digest
	conflict := func(name, query string, body []byte, words ...string) attack {
		return attack{
			name: name, query: query, body: body, status: http.StatusConflict, kind: api.TypeUpdateConflict,
			words: append(words, `"x"`, `"u"`), extra: map[string]any{"combiner": "x", "id": "u", "held": held},
		}
	}
	v.suffer(conflict("same key, other bytes", "weight=3&id=u", tensorFile(changed("half", value(0, 0, 0))), "other bytes"))
	v.suffer(conflict("same key, other weight", "weight=4&id=u", good, "weight 3, not 4"))
	v.suffer(conflict("same key, other bytes as npz", "weight=3&id=u", archive(t, zip.Deflate, npzMembers(changed("half", value(0, 0, 0)))...), "other bytes"))
	before := v.listing()
	if got := v.send(first); got.status != http.StatusOK || !strings.Contains(string(got.body), `"duplicate":true`) || v.listing() != before {
		t.Errorf("the same again: %d %s", got.status, got.body)
	}
	v.serves(good)
}

// Many clients look for the answer only once all is sent; a refusal must reach them too.
func TestHostileRefusalReachesThoseWhoSendAllFirst(t *testing.T) {
	v := newVictim(t)
	v.openSession(tensorFile(goodModel()))
	body := tensorFile([]array{{"w", model.F32, []int64{8 << 20}, make([]byte, 32<<20)}})
	push := func() (got answer, err error) {
		conn := v.dial(v.addr)
		defer conn.Close()
		_, err = fmt.Fprintf(conn, "PUT %s?weight=1 HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", updatesOfX, len(body))
		if err == nil {
			_, err = conn.Write(body)
		}
		if err != nil {
			return got, err
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			return got, err
		}
		defer resp.Body.Close()
		got.status = resp.StatusCode
		got.body, err = io.ReadAll(resp.Body)
		return got, err
	}
	const lingering = 2 * time.Second // is how long a server reads on for nothing
	reached := 0
	for end := time.Now().Add(patience); reached < 5; {
		var began time.Time
		var err error
		got := v.steady(func() (got answer) {
			began = time.Now()
			got, err = push()
			return got
		})
		switch took := time.Since(began); {
		case err != nil && (took < lingering || time.Now().After(end)):
			t.Fatalf("after %d that were answered: %v, after %v", reached, err, took)
		case err != nil: // the machine was too busy to send it all in that time
		case got.status != http.StatusUnprocessableEntity || !strings.Contains(string(got.body), "brain"):
			t.Fatalf("%d %s", got.status, got.body)
		default:
			reached++
		}
	}
}
