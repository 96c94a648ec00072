package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/fedmesh/fedmesh/mesh/api"
)

// keeping is a fake backend with keys.
type keeping struct {
	*fake
	asked []api.KeyChange
	ring  api.KeyRing
	err   error
}

func (k *keeping) Keys(context.Context) (api.KeyRing, error) { return k.ring, k.err }

func (k *keeping) ChangeKeys(_ context.Context, change api.KeyChange) (api.KeyRing, error) {
	k.asked = append(k.asked, change)
	return k.ring, k.err
}

func TestKeyRoutes(t *testing.T) {
	k := &keeping{fake: newFake()}
	_, url := start(t, k, api.ServerOptions{})
	const key = "AAAAAAAAAAAAAAAAAAAAAA=="
	text := func(method, body string) (int, string) {
		resp := do(t, method, url+"/v1/keys", strings.NewReader(body))
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, strings.TrimSpace(string(b))
	}
	if status, body := text("GET", ""); status != 200 || body != `{"keys":[],"peers":[],"complete":false}` {
		t.Error(status, body)
	}
	k.ring = api.KeyRing{
		Keys: []api.KeyInfo{{Fingerprint: "0011223344556677", Peers: []string{"a"}}}, Complete: true,
		Peers: []api.KeyPeer{{Name: "a", Result: api.KeyOK}, {Name: "b", Result: api.KeyFailed, Detail: "full"}},
	}
	const want = `{"keys":[{"fingerprint":"0011223344556677","peers":["a"],"primary":[]}],"peers":[{"name":"a","result":"ok"},{"name":"b","result":"error","detail":"full"}],"complete":true}`
	if status, body := text("POST", `{"operation":"install","key":"`+key+`"}`); status != 200 || body != want {
		t.Error(status, body)
	}
	if len(k.asked) != 1 || k.asked[0] != (api.KeyChange{Operation: api.KeyInstall, Key: key}) {
		t.Errorf("%+v", k.asked)
	}
	for _, c := range []struct {
		body   string
		status int
		kind   api.ProblemType
		says   string
	}{
		{"", 400, api.TypeInvalidRequest, "body"},
		{key, 400, api.TypeInvalidRequest, "body"},
		{`{"operation":"install","key":"` + key + `","x":1}`, 400, api.TypeInvalidRequest, "body"},
		{`{"operation":"install","key":"` + key + `"} {}`, 400, api.TypeInvalidRequest, "body"},
		{`{"operation":"burn","key":"` + key + `"}`, 400, api.TypeInvalidRequest, "burn"},
		{`{"operation":"use"}`, 400, api.TypeInvalidRequest, "no key"},
		{strings.Repeat(" ", 5<<10), 413, api.TypeTooLarge, ""},
	} {
		p := problem(t, do(t, "POST", url+"/v1/keys", strings.NewReader(c.body)))
		if p.Status != c.status || !c.kind.Is(p) || !strings.Contains(p.Detail, c.says) || strings.Contains(p.Error(), key) {
			t.Errorf("%.60q: %+v", c.body, p)
		}
	}
	if len(k.asked) != 1 {
		t.Errorf("the backend was asked for %+v", k.asked)
	}
	for _, want := range []*api.Problem{api.NotEncrypted(), api.UnknownKey("x"), api.PrimaryKey("x", []string{"a"}), api.KeyMissing("x", []string{"a", "b"})} {
		k.err = want
		p := problem(t, do(t, "POST", url+"/v1/keys", strings.NewReader(`{"operation":"use","key":"x"}`)))
		if p.Type != want.Type || p.Status != want.Status || p.Detail != want.Detail {
			t.Errorf("%+v, want %+v", p, want)
		}
	}
	if p := problem(t, do(t, "GET", url+"/v1/keys?x=1", nil)); !api.TypeInvalidRequest.Is(p) {
		t.Errorf("%+v", p)
	}

	// What keeps no keys says so, and a client hears it.
	_, plain := start(t, newFake(), api.ServerOptions{})
	c, err := api.NewClient([]string{plain}, api.ClientOptions{Passes: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Keys(t.Context()); !api.TypeNotEncrypted.Is(err) {
		t.Error(err)
	}
	if _, err := c.ChangeKeys(t.Context(), api.KeyChange{Operation: api.KeyUse, Key: "x"}); !api.TypeNotEncrypted.Is(err) {
		t.Error(err)
	}
}

// Every change of keys that the description allows is one that the server takes.
func TestKeyOperationsDescribed(t *testing.T) {
	var doc struct{ Paths map[string]json.RawMessage }
	var keys struct {
		Post struct {
			RequestBody struct {
				Content map[string]struct {
					Schema struct {
						Properties struct{ Operation struct{ Enum []string } }
					}
				}
			}
		}
	}
	if err := json.Unmarshal(api.OpenAPI(), &doc); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(doc.Paths["/v1/keys"], &keys); err != nil {
		t.Fatal(err)
	}
	operations := keys.Post.RequestBody.Content["application/json"].Schema.Properties.Operation.Enum
	if len(operations) != 3 {
		t.Fatal(operations)
	}
	k := &keeping{fake: newFake(), err: errors.New("taken")}
	_, url := start(t, k, api.ServerOptions{})
	for _, o := range operations {
		do(t, "POST", url+"/v1/keys", strings.NewReader(`{"operation":"`+o+`","key":"x"}`))
	}
	if len(k.asked) != 3 {
		t.Errorf("taken: %+v", k.asked)
	}
}
