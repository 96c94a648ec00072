package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/fedmesh/fedmesh/mesh/access"
	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/upload"
)

// tokens is a tokens file in the making.
type tokens struct {
	file strings.Builder
	made int
}

// add makes a token.
func (k *tokens) add(t testing.TB, g access.Grant) string {
	t.Helper()
	token := access.NewToken()
	h, err := access.HashOf(token)
	if err != nil {
		t.Fatal(err)
	}
	if k.made++; g.Name == "" {
		g.Name = fmt.Sprintf("%s-%d", g.Role, k.made)
	}
	line, err := access.Line(g, h)
	if err != nil {
		t.Fatal(err)
	}
	k.file.WriteString(line + "\n")
	return token
}

// set is what the server asks for.
func (k *tokens) set(t testing.TB) func() *access.Set {
	t.Helper()
	set, err := access.Parse([]byte(k.file.String()))
	if err != nil {
		t.Fatal(err)
	}
	return func() *access.Set { return set }
}

// who is somebody who makes requests: what header they send, and what they may do beyond routes that are open.
type who struct {
	name          string
	header        [2]string
	read, follow  bool
	push, operate bool
	getOnly       bool
	refused       int // what the others are answered
}

// routeNeeds says for every route what it takes, and is written down here a second time on purpose. A route that is not here fails the test.
var routeNeeds = map[string]string{
	"GET /healthz": "", "GET /readyz": "", "GET /{$}": "", "GET /ui/{file}": "", "GET /openapi.json": "",
	"GET /v1/login": "", "POST /v1/login": "", "DELETE /v1/login": "",
	"GET /v1/mesh": "read", "GET /v1/events": "read", "GET /metrics": "read", "GET /v1/sessions": "read",
	"GET /v1/sessions/{session}": "follow", "GET /v1/sessions/{session}/model": "follow", "GET /v1/sessions/{session}/models/{model}": "follow",
	"GET /v1/sessions/{session}/rounds": "follow", "GET /v1/sessions/{session}/rounds/{round}": "follow",
	"PUT /v1/sessions/{session}/updates/{combiner}": "push", "POST /v1/sessions/{session}/updates/{combiner}": "push",
	"OPTIONS /v1/sessions/{session}/updates/{combiner}": "push",
	"GET /v1/uploads/{upload}":                          "push", "HEAD /v1/uploads/{upload}": "push", "PATCH /v1/uploads/{upload}": "push", "DELETE /v1/uploads/{upload}": "push",
	"POST /v1/uploads/{upload}": "push", "OPTIONS /v1/uploads/{upload}": "push",
	"PUT /v1/sessions/{session}": "operate", "POST /v1/sessions/{session}/close": "operate", "POST /v1/leave": "operate", "POST /v1/forget": "operate", "GET /v1/keys": "operate", "POST /v1/keys": "operate",
}

// TestEveryRouteAndRole tries every route of the server as everybody.
func TestEveryRouteAndRole(t *testing.T) {
	var file tokens
	bearer := func(token string) [2]string { return [2]string{"Authorization", "Bearer " + token} }
	add := func(g access.Grant) [2]string { return bearer(file.add(t, g)) }
	const long = 100 * time.Hour
	operator, reader := file.add(t, access.Grant{Role: access.Operator}), file.add(t, access.Grant{Role: access.Reader})
	people := []who{
		{name: "nobody", refused: 401},
		{name: "a stranger", header: bearer(access.NewToken()), refused: 401},
		{name: "a mangled token", header: bearer(operator[:50] + "!"), refused: 401},
		{name: "half a token", header: bearer(operator[:30]), refused: 401},
		{name: "no scheme", header: [2]string{"Authorization", operator}, refused: 401},
		{name: "another scheme", header: [2]string{"Authorization", "Basic " + operator}, refused: 401},
		{name: "a huge header", header: bearer(strings.Repeat("x", 30_000)), refused: 401},
		{name: "an expired operator", header: add(access.Grant{Role: access.Operator, Expires: time.Now().Add(-time.Second)}), refused: 401},
		{name: "a forged cookie", header: [2]string{"Cookie", "fedmesh-00000000=" + strings.Repeat("A", 96)}, refused: 401},
		{name: "combiner", header: add(access.Grant{Role: access.Combiner}), follow: true, push: true, refused: 403},
		{name: "combiner of both", header: add(access.Grant{Role: access.Combiner, Combiner: "c1", Sessions: []string{"x", "s"}, Expires: time.Now().Add(long)}), follow: true, push: true, refused: 403},
		{name: "combiner of the key", header: add(access.Grant{Role: access.Combiner, Sessions: []string{strings.Repeat("ab", 32)}}), follow: true, push: true, refused: 403},
		{name: "another combiner", header: add(access.Grant{Role: access.Combiner, Combiner: "c2"}), follow: true, refused: 403},
		{name: "combiner of another session", header: add(access.Grant{Role: access.Combiner, Sessions: []string{"other"}}), refused: 403},
		{name: "reader", header: bearer(reader), read: true, follow: true, refused: 403},
		{name: "operator", header: bearer(operator), read: true, follow: true, push: true, operate: true},
		{name: "peer", header: add(access.Grant{Role: access.Peer}), refused: 403},
	}
	f := taking(newFake().with("s", someModel(t, 4, 1)).with("other", someModel(t, 4, 1)), upload.Options{Most: 10_000})
	f.sessions[strings.Repeat("cd", 32)] = f.sessions["other"]
	f.sessions["other"].info.Key = strings.Repeat("cd", 32)
	f.onPush = func(_ context.Context, req api.PushRequest) (api.Receipt, error) {
		_, err := io.Copy(io.Discard, req.Body)
		return api.Receipt{}, err
	}
	defer f.set.Close()
	var log logTo
	srv, url := start(t, f, api.ServerOptions{Tokens: file.set(t), Logger: zerolog.New(&log)})
	people = append(people,
		who{name: "a reader's cookie", header: [2]string{"Cookie", logIn(t, url, reader)}, read: true, follow: true, getOnly: true, refused: 401},
		who{name: "an operator's cookie", header: [2]string{"Cookie", logIn(t, url, operator)}, read: true, follow: true, push: true, operate: true, getOnly: true, refused: 401})

	requests := 0
	for _, rt := range srv.RouteList() {
		method, pattern := rt[0], rt[1]
		need, known := routeNeeds[method+" "+pattern]
		if !known || !api.HasRule(method, pattern) {
			t.Errorf("%s %s has no rule in this test: say in ruleOf and here who may go there", method, pattern)
			continue
		}
		if !slices.Equal(describedRoles(t, method, pattern), map[string][]string{
			"": nil, "read": {"reader", "operator"}, "follow": {"combiner", "reader", "operator"}, "push": {"combiner", "operator"}, "operate": {"operator"},
		}[need]) {
			t.Errorf("%s %s: openapi.json gives it to others than %q", method, pattern, need)
		}
		for _, p := range people {
			upload := ""
			if strings.Contains(pattern, "{upload}") {
				upload = uploadOf(t, url, operator, "s", "c1")
			}
			path := strings.NewReplacer("{$}", "", "{session}", "s", "{combiner}", "c1", "{model}", "0", "{round}", "1", "{file}", "x", "{upload}", upload).Replace(pattern)
			may := map[string]bool{"": true, "read": p.read, "follow": p.follow, "push": p.push, "operate": p.operate}[need] && (need == "" || !p.getOnly || method == "GET")
			header := []string{"Tus-Resumable", "1.0.0"}
			if p.header[0] != "" {
				header = append(header, p.header[:]...)
			}
			requests++
			resp := do(t, method, url+path, nil, header...)
			refused := p.refused
			if need == "" || p.getOnly && method == "GET" {
				refused = 403
			}
			switch {
			case may && (resp.StatusCode == 401 || resp.StatusCode == 403) && pattern != "/v1/login":
				t.Errorf("%s may not %s %s: %d", p.name, method, path, resp.StatusCode)
			case !may && resp.StatusCode != refused:
				t.Errorf("%s: %s %s is answered with %d, want %d", p.name, method, path, resp.StatusCode, refused)
			case !may && method != "HEAD":
				prob := problem(t, resp)
				if strings.Contains(prob.Detail, "fedmesh_") && !strings.Contains(prob.Detail, `"fedmesh_"`) || resp.StatusCode == 401 != strings.HasPrefix(resp.Header.Get("WWW-Authenticate"), `Bearer realm="fedmesh"`) {
					t.Errorf("%s: %v, WWW-Authenticate %q", p.name, prob, resp.Header.Get("WWW-Authenticate"))
				}
				if roles := fmt.Sprint(prob.Extra["roles"]); (resp.StatusCode == 403 || p.name == "nobody") && !strings.Contains(roles, "operator") {
					t.Errorf("%s: %s %s does not say what is needed: %v, %s", p.name, method, path, prob, roles)
				}
			}
			_ = resp.Body.Close()
		}
	}
	if requests < 500 {
		t.Errorf("only %d requests", requests)
	}
	for line := range strings.Lines(file.file.String()) {
		if strings.Contains(log.String(), fmt.Sprint(line)) {
			t.Error("the log has a line of the tokens file")
		}
	}
	for _, p := range people {
		if _, token, ok := strings.Cut(p.header[1], "earer "); ok && len(token) > 40 && strings.Contains(log.String(), token[:40]) {
			t.Errorf("the log has the token of %s", p.name)
		}
	}
	if !strings.Contains(log.String(), `"token":"operator-1"`) {
		t.Error("the log does not name the tokens")
	}
}

// describedRoles is who may go to a route as openapi.json says.
func describedRoles(t *testing.T, method, pattern string) []string {
	t.Helper()
	var doc struct {
		Paths map[string]map[string]json.RawMessage
	}
	if err := json.Unmarshal(api.OpenAPI(), &doc); err != nil {
		t.Fatal(err)
	}
	var op struct{ Security []map[string][]string }
	if err := json.Unmarshal(doc.Paths[strings.TrimSuffix(pattern, "{$}")][strings.ToLower(method)], &op); err != nil || op.Security == nil {
		t.Errorf("%s %s has no security in openapi.json: %v", method, pattern, err)
		return nil
	}
	for _, s := range op.Security {
		if roles, ok := s["bearer"]; ok {
			return roles
		}
	}
	return nil
}

// uploadOf begins an upload and returns its name.
func uploadOf(t *testing.T, url, token, session, combiner string) string {
	t.Helper()
	resp := tus(t, "POST", url+"/v1/sessions/"+session+"/updates/"+combiner+"?weight=1&id=1", nil, "Upload-Length", "100", "Authorization", "Bearer "+token)
	name, ok := strings.CutPrefix(resp.Header.Get("Location"), "/v1/uploads/")
	if resp.StatusCode != 201 || !ok {
		t.Fatalf("status %d, %v", resp.StatusCode, resp.Header)
	}
	return name
}

// logIn trades a token for a cookie.
func logIn(t *testing.T, url, token string) string {
	t.Helper()
	resp := do(t, "POST", url+"/v1/login", strings.NewReader(`{"token":`+strconv.Quote(token)+`}`), "Content-Type", "application/json")
	cookies := resp.Cookies()
	if resp.StatusCode != 200 || len(cookies) != 1 {
		b, _ := io.ReadAll(resp.Body)
		t.Fatalf("status %d, %d cookies: %s", resp.StatusCode, len(cookies), b)
	}
	c := cookies[0]
	if !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" || c.Secure || strings.Contains(c.Value, token[8:]) {
		t.Errorf("the cookie: %s", c)
	}
	return c.Name + "=" + c.Value
}

// TestNamesDoNotLeadAstray: no name in a path, however it is written, reaches another route or passes for a name.
func TestNamesDoNotLeadAstray(t *testing.T) {
	var file tokens
	operator := file.add(t, access.Grant{Role: access.Operator})
	bound := file.add(t, access.Grant{Role: access.Combiner, Combiner: "c1", Sessions: []string{"s"}})
	f := taking(newFake().with("s", someModel(t, 4, 1)), upload.Options{})
	defer f.set.Close()
	srv, url := start(t, f, api.ServerOptions{Tokens: file.set(t)})
	bad := []string{
		"%2e%2e", "..", "%2e", "%2e%2e%2fs", "..%2f..%2fetc%2fpasswd", "%2fetc%2fpasswd", "s%2f..%2fother", "s%00", "%00", "s%0d%0aSet-Cookie:x", "%5c..%5cs", ".s", "s%20",
		"%ff%fe", "%c0%ae%c0%ae", "%e2%80%ae", strings.Repeat("a", 129), "%2525", "%25", "s%3fx", "s%23", "~", "*", "s;x=1",
	}
	for _, rt := range srv.RouteList() {
		method, pattern := rt[0], rt[1]
		for _, variable := range []string{"{session}", "{combiner}", "{upload}", "{model}", "{round}", "{file}"} {
			if !strings.Contains(pattern, variable) {
				continue
			}
			for _, name := range bad {
				for _, token := range []string{operator, bound} {
					path := strings.NewReplacer(variable, name, "{session}", "s", "{combiner}", "c1", "{upload}", strings.Repeat("0", 32), "{model}", "0", "{round}", "1").Replace(pattern)
					resp := do(t, method, url+path+"?weight=1&id=x", strings.NewReader("x"), "Authorization", "Bearer "+token, "Tus-Resumable", "1.0.0", "Upload-Length", "9",
						"Content-Type", "application/offset+octet-stream", "Upload-Offset", "0", "X-HTTP-Method-Override", "PATCH")
					if method == "OPTIONS" && resp.StatusCode == 204 {
						continue // it looks at no name
					}
					if resp.StatusCode < 400 || resp.StatusCode >= 500 {
						t.Errorf("%s %s: %d", method, path, resp.StatusCode)
					}
					_ = resp.Body.Close()
				}
			}
		}
	}
	if pushes := f.pushed(); len(pushes) > 0 {
		t.Errorf("a push came through: %+v", pushes[0])
	}
}
