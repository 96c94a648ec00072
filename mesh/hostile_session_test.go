package mesh_test

import (
	"archive/zip"
	"fmt"
	"math"
	"net/http"
	"strings"
	"testing"

	"github.com/fedmesh/fedmesh/mesh/api"
)

func TestHostileSessions(t *testing.T) {
	v := newVictim(t)
	seed := tensorFile(goodModel())
	v.openSession(seed)
	good := string(seed)
	spoilt := func(name string, f func(a *array)) string { return string(tensorFile(changed(name, f))) }
	opening := func(name string, body []byte, status int, kind api.ProblemType, words ...string) attack {
		return attack{name: name, path: "/v1/sessions/new", header: formHeader, body: body, status: status, kind: kind, words: words}
	}
	config := func(name, json string, words ...string) attack {
		a := opening(name, form("config", json, "seed", good), http.StatusBadRequest, api.TypeInvalidRequest, words...)
		a.extra = map[string]any{"parameter": "config"}
		return a
	}
	bad := func(name, parameter string, body []byte, words ...string) attack {
		a := opening(name, body, http.StatusBadRequest, api.TypeInvalidRequest, words...)
		if parameter != "" {
			a.extra = map[string]any{"parameter": parameter}
		}
		return a
	}
	seeded := func(name, seed string, status int, kind api.ProblemType, words ...string) attack {
		return opening(name, form("config", calm, "seed", seed), status, kind, words...)
	}
	var thousand []string
	for i := range 1000 {
		thousand = append(thousand, fmt.Sprint("part", i), "x")
	}
	var configs []string
	for range 1000 {
		configs = append(configs, "config", "{}")
	}
	for _, a := range []attack{
		config("config that is no JSON", "copies: 1", "JSON"),
		config("an empty config", "", "empty"),
		config("half a config", `{"copies":1`, "ends"),
		config("a config that is a list", `[]`, "object"),
		config("something behind the config", `{} {}`, "follows"),
		config("an unknown field", `{"copys":1}`, `"copys"`, "known", "copies"),
		config("a number as text", `{"copies":"two"}`, `"copies"`, "string", "integer"),
		config("half a copy", `{"copies":1.5}`, `"copies"`),
		config("copies 0", `{"copies":0}`, "copies is 0", "1 to 64"),
		config("copies 2^40", `{"copies":1099511627776}`, "copies"),
		config("copies 2^70", `{"copies":1180591620717411303424}`, "copies"),
		config("negative target", `{"target_combiners":-1}`, "target_combiners is -1"),
		config("target below minimum", `{"target_combiners":1,"min_combiners":5}`, "min_combiners 5"),
		config("a duration without unit", `{"round_timeout":"60"}`, "round_timeout", `"60"`, `"60s"`),
		config("a duration as number", `{"round_timeout":60}`, `"round_timeout"`),
		config("a negative duration", `{"round_timeout":"-60s"}`, "round_timeout is -1m0s"),
		config("an endless duration", `{"round_timeout":"2000000h"}`, "round_timeout", "720h"),
		config("several faults", `{"copies":0,"min_combiners":0}`, "copies is 0", "min_combiners is 0"),
		config("an unknown strategy", `{"strategy":"fedmagic"}`, "fedmagic", "fedavg"),
		config("a strategy with a slash", `{"strategy":"../x"}`, "../x"),
		config("an unknown parameter", `{"params":{"lr":"1"}}`, "lr"),
		config("a deep config", strings.Repeat(`[`, 60_000), "JSON"),
		config("a huge config", `{"strategy":"`+strings.Repeat("x", 1<<20)+`"}`, "more than 65536 bytes"),

		bad("no parts", "seed", form(), "seed", "missing"),
		bad("no seed", "seed", form("config", calm), "seed", "missing"),
		bad("seed before config", "config", form("seed", good, "config", calm), "before"),
		bad("two configs", "config", form("config", calm, "config", calm, "seed", good), "twice"),
		bad("two seeds", "seed", form("config", calm, "seed", good, "seed", good), "last"),
		bad("something behind the seed", "more", form("config", calm, "seed", good, "more", "x"), "last"),
		bad("1000 parts", "part0", form(thousand...), `"part0"`, "known: config, seed"),
		bad("1000 configs", "config", form(configs...), "twice"),
		bad("a part without a name", "", form("", "x"), "known: config, seed"),
		bad("no boundary in the body", "body", []byte("hello"), "multipart"),
		bad("an empty multipart body", "body", []byte("\r\n"), "multipart"),
		bad("a part that never ends", "seed", form("config", calm, "seed", good)[:20_000], "broke off"),
		bad("no closing boundary", "body", []byte(strings.TrimSuffix(string(form("config", calm, "seed", good)), "--\r\n")), "boundary"),
		bad("a part with endless headers", "body", []byte("--boundary\r\n"+strings.Repeat("X-Header: x\r\n", 50_000)+"\r\n"), "multipart"),

		seeded("empty seed", "", http.StatusBadRequest, api.TypeUnreadableModel, "empty"),
		seeded("random seed", strings.Repeat("random", 1000), http.StatusBadRequest, api.TypeUnreadableModel, "no known format"),
		seeded("truncated seed", good[:20_000], http.StatusBadRequest, api.TypeUnreadableModel, "truncated"),
		seeded("truncated npz seed", string(archive(t, zip.Deflate, npzMembers(goodModel()[:4])...)[:20_000]), http.StatusBadRequest, api.TypeUnreadableModel, "truncated"),
		seeded("seed without tensors", string(rawTensorFile("", nil)), http.StatusBadRequest, api.TypeUnreadableModel, "without tensors"),
		seeded("bfloat16 that only a session knows", string(archive(t, zip.Store, npzMembers(goodModel())...)), http.StatusBadRequest, api.TypeUnreadableModel, `"brain"`, "bfloat16"),
		seeded("object array", string(archive(t, zip.Store, zipped{"a.npy", npy("|O", "(1,)", []byte("\x80\x04N."))})), http.StatusBadRequest, api.TypeUnreadableModel, `"a"`, "objects"),
		seeded("NaN", spoilt("dense.weight", value(1000, f32bits(math.NaN())...)), http.StatusUnprocessableEntity, api.TypeInvalidValue, `"dense.weight"`, "element 1000", "NaN"),
		seeded("Inf", spoilt("double", value(7, f64bits(math.Inf(-1))...)), http.StatusUnprocessableEntity, api.TypeInvalidValue, `"double"`, "element 7", "-Inf"),
		seeded("float64 1e300", spoilt("double", value(7, f64bits(1e300)...)), http.StatusUnprocessableEntity, api.TypeInvalidValue, `"double"`, "element 7", "1e+300"),
		seeded("float16 NaN", spoilt("half", value(3, 0x01, 0x7c)), http.StatusUnprocessableEntity, api.TypeInvalidValue, `"half"`, "element 3", "NaN"),
		seeded("bfloat16 NaN", spoilt("brain", value(5, 0xc0, 0x7f)), http.StatusUnprocessableEntity, api.TypeInvalidValue, `"brain"`, "element 5", "NaN"),
	} {
		v.suffer(a)
	}
	for _, a := range []attack{
		{name: "no form", path: "/v1/sessions/new", body: seed, status: http.StatusUnsupportedMediaType, kind: api.TypeUnsupportedMedia, words: []string{"multipart/form-data", "config", "seed"}},
		{name: "a form without boundary", path: "/v1/sessions/new", header: http.Header{"Content-Type": {"multipart/form-data"}}, body: seed, status: http.StatusUnsupportedMediaType, kind: api.TypeUnsupportedMedia},
		{name: "no body", path: "/v1/sessions/new", header: formHeader, status: http.StatusBadRequest, kind: api.TypeUnreadableModel, words: []string{"empty"}},
		{name: "a name with a slash", path: "/v1/sessions/a%2Fb", header: formHeader, body: form("config", calm, "seed", good), status: http.StatusBadRequest, kind: api.TypeInvalidRequest, words: []string{`"a/b"`}},
		{name: "a name of 300 characters", path: "/v1/sessions/" + strings.Repeat("n", 300), header: formHeader, body: form("config", calm, "seed", good), status: http.StatusBadRequest, kind: api.TypeInvalidRequest, words: []string{"300 bytes"}},
		{name: "a name in unicode", path: "/v1/sessions/s%C3%A9ance", header: formHeader, body: form("config", calm, "seed", good), status: http.StatusBadRequest, kind: api.TypeInvalidRequest, words: []string{`\u00e9`}},
		{name: "a name that is taken", path: "/v1/sessions/s", header: formHeader, body: form("config", calm, "seed", spoilt("half", value(0, 0, 0))), status: http.StatusConflict, kind: api.TypeSessionConflict, words: []string{`"s"`, "another seed"}},
		{name: "a name with another config", path: "/v1/sessions/s", header: formHeader, body: form("config", `{"copies":3}`, "seed", good), status: http.StatusConflict, kind: api.TypeSessionConflict, words: []string{`"s"`, "another config"}},
		{name: "close an unknown session", method: http.MethodPost, path: "/v1/sessions/nobody/close", status: http.StatusNotFound, kind: api.TypeUnknownSession, words: []string{"nobody"}},
	} {
		v.suffer(a)
	}
	if n := len(v.peer.Sessions()); n != 1 {
		t.Errorf("%d sessions", n)
	}
	before := v.listing()
	if got := v.send(attack{path: "/v1/sessions/s", header: formHeader, body: form("config", calm, "seed", good)}); got.status != http.StatusOK || v.listing() != before {
		t.Errorf("the same again: %d %s", got.status, got.body)
	}
	v.serves(seed)
}
