package api_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fedmesh/fedmesh/mesh/access"
	"github.com/fedmesh/fedmesh/mesh/api"
)

func TestLogin(t *testing.T) {
	var file tokens
	reader, combiner, peer := file.add(t, access.Grant{Role: access.Reader, Name: "dash"}), file.add(t, access.Grant{Role: access.Combiner}), file.add(t, access.Grant{Role: access.Peer})
	f := newFake().with("s", someModel(t, 4, 1))
	_, url := start(t, f, api.ServerOptions{Tokens: file.set(t)})
	whoami := func(header ...string) string {
		b, err := io.ReadAll(do(t, "GET", url+"/v1/login", nil, header...).Body)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(b))
	}
	if got := whoami(); got != `{"required":true}` {
		t.Errorf("nobody is %s", got)
	}
	cookie := logIn(t, url, reader)
	for _, header := range [][2]string{{"Cookie", cookie}, {"Authorization", "bearer " + reader}} {
		if got := whoami(header[:]...); got != `{"required":true,"name":"dash","role":"reader"}` {
			t.Errorf("by %s: %s", header[0], got)
		}
	}
	// The page's event stream.
	resp := do(t, "GET", url+"/v1/events", nil, "Cookie", "other=1; "+cookie)
	if b := make([]byte, 9); resp.StatusCode != 200 || func() bool { _, err := io.ReadFull(resp.Body, b); return err != nil }() {
		t.Errorf("events: %d", resp.StatusCode)
	}
	// What the cookie does not open, and cookies that were tampered with.
	name, value, _ := strings.Cut(cookie, "=")
	raw, err := base64.RawURLEncoding.DecodeString(value)
	if err != nil {
		t.Fatal(err)
	}
	for i := range raw {
		raw[i] ^= 1
		if resp := do(t, "GET", url+"/v1/mesh", nil, "Cookie", name+"="+base64.RawURLEncoding.EncodeToString(raw)); resp.StatusCode != 401 {
			t.Fatalf("a cookie with byte %d changed: %d", i, resp.StatusCode)
		}
		raw[i] ^= 1
	}
	for _, bad := range []string{value + "A", value[:90], "", "x"} {
		if resp := do(t, "GET", url+"/v1/mesh", nil, "Cookie", name+"="+bad); resp.StatusCode != 401 {
			t.Errorf("cookie %q: %d", bad, resp.StatusCode)
		}
	}
	if resp := do(t, "HEAD", url+"/v1/mesh", nil, "Cookie", cookie); resp.StatusCode != 401 {
		t.Errorf("HEAD with a cookie: %d", resp.StatusCode)
	}
	_, elsewhere := start(t, f, api.ServerOptions{Tokens: file.set(t)})
	if resp := do(t, "GET", elsewhere+"/v1/mesh", nil, "Cookie", cookie); resp.StatusCode != 401 {
		t.Errorf("another peer takes the cookie: %d", resp.StatusCode)
	}
	// Who may not log in.
	post := func(body string, header ...string) *http.Response {
		return do(t, "POST", url+"/v1/login", strings.NewReader(body), append([]string{"Content-Type", "application/json"}, header...)...)
	}
	for body, want := range map[string]int{
		`{"token":"` + combiner + `"}`: 403, `{"token":"` + peer + `"}`: 403, `{"token":"` + access.NewToken() + `"}`: 401, `{"token":""}`: 401, `{}`: 401,
		`{"token":"` + reader + `","x":1}`: 400, `nonsense ` + reader: 400, `{"token":"` + reader + `"}{}`: 400, "": 400, `{"token":"` + strings.Repeat("a", 5000) + `"}`: 413,
	} {
		resp := post(body)
		if len(resp.Cookies()) > 0 || resp.StatusCode != want {
			t.Errorf("%.30s: %d, want %d", body, resp.StatusCode, want)
		}
		if p := problem(t, resp); strings.Contains(p.Detail, reader) {
			t.Errorf("the answer repeats the token: %v", p)
		}
	}
	if resp := do(t, "POST", url+"/v1/login", strings.NewReader("token="+reader), "Content-Type", "application/x-www-form-urlencoded"); resp.StatusCode != 415 {
		t.Errorf("a form: %d", resp.StatusCode)
	}
	if resp := post(`{"token":"`+reader+`"}`, "Origin", "http://elsewhere", "Sec-Fetch-Site", "cross-site"); resp.StatusCode != 403 || len(resp.Cookies()) > 0 {
		t.Errorf("another site logs in: %d", resp.StatusCode)
	}
	if resp := do(t, "GET", url+"/v1/mesh?token="+reader, nil); resp.StatusCode != 401 {
		t.Errorf("a token in the URL: %d", resp.StatusCode)
	}
	out := do(t, "DELETE", url+"/v1/login", nil, "Cookie", cookie).Cookies()
	if len(out) != 1 || out[0].Name != name || out[0].MaxAge >= 0 || out[0].Value != "" {
		t.Errorf("logged out with %v", out)
	}
	// Without a tokens file nobody is asked for one.
	_, open := start(t, f, api.ServerOptions{})
	resp = do(t, "POST", open+"/v1/login", strings.NewReader("{}"), "Content-Type", "application/json")
	if b, _ := io.ReadAll(resp.Body); resp.StatusCode != 200 || strings.TrimSpace(string(b)) != `{"required":false}` || len(resp.Cookies()) > 0 {
		t.Errorf("without tokens: %d, %s", resp.StatusCode, b)
	}
}

// TestCookieEnds: with its time, with its token's, and when the token is taken back.
func TestCookieEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var file tokens
		long := file.add(t, access.Grant{Role: access.Reader})
		short := file.add(t, access.Grant{Role: access.Reader, Expires: time.Now().Add(time.Hour)})
		set := file.set(t)()
		net := newMemNet()
		srv := api.NewServer(newFake(), api.ServerOptions{Tokens: func() *access.Set { return set }})
		stop := net.serve("a:80", srv.HTTPServer(srv))
		defer func() {
			srv.Close()
			stop()
		}()
		hc := &http.Client{Transport: &http.Transport{DialContext: net.dial, DisableKeepAlives: true}}
		login := func(token string) *http.Cookie {
			resp, err := hc.Post("http://a:80/v1/login", "application/json", strings.NewReader(`{"token":"`+token+`"}`))
			if err != nil || len(resp.Cookies()) != 1 {
				t.Fatal(resp, err)
			}
			_ = resp.Body.Close()
			return resp.Cookies()[0]
		}
		get := func(c *http.Cookie) int {
			r, _ := http.NewRequest("GET", "http://a:80/v1/mesh", nil)
			r.AddCookie(c)
			resp, err := hc.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			return resp.StatusCode
		}
		a, b := login(long), login(short)
		if !b.Expires.Equal(time.Now().Add(time.Hour).UTC()) || !a.Expires.Equal(time.Now().Add(12*time.Hour).UTC()) {
			t.Errorf("they last until %v and %v", a.Expires, b.Expires)
		}
		time.Sleep(time.Hour - time.Second)
		if get(a) != 200 || get(b) != 200 {
			t.Error("before an hour")
		}
		time.Sleep(time.Second)
		if get(a) != 200 || get(b) != 401 {
			t.Error("after an hour")
		}
		time.Sleep(11 * time.Hour)
		if get(a) != 401 {
			t.Error("after twelve hours")
		}
		a = login(long)
		set, _ = access.Parse(nil)
		if get(a) != 401 {
			t.Error("after the token was taken back")
		}
		r, _ := http.NewRequest("GET", "http://a:80/", nil)
		r.AddCookie(a) // the browser goes on sending it
		resp, err := hc.Do(r)
		if err != nil || resp.StatusCode != 200 {
			t.Error("the page does not load any more", err)
		} else {
			_ = resp.Body.Close()
		}
	})
}

// TestPeerPlane: with peer tokens nothing else opens it, without any a verified certificate does, and nothing but a tokens file closes it.
func TestPeerPlane(t *testing.T) {
	var withPeers, without tokens
	roles := map[access.Role]string{}
	for _, r := range access.Roles() {
		roles[r] = withPeers.add(t, access.Grant{Role: r})
	}
	expired := withPeers.add(t, access.Grant{Role: access.Peer, Expires: time.Now().Add(-time.Minute)})
	operator := without.add(t, access.Grant{Role: access.Operator})
	ours, foreign := selfSigned(t), selfSigned(t)
	reached := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "a peer") })
	serve := func(o api.ServerOptions) (string, *httptest.Server) {
		srv := api.NewServer(newFake(), o)
		t.Cleanup(srv.Close)
		ts := httptest.NewUnstartedServer(srv.GuardPeers(reached))
		ts.TLS = &tls.Config{ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: x509.NewCertPool()}
		ts.TLS.ClientCAs.AddCert(ours.Leaf)
		ts.Config.ErrorLog = nil
		ts.StartTLS()
		t.Cleanup(ts.Close)
		return ts.URL, ts
	}
	plain := api.NewServer(newFake(), api.ServerOptions{Tokens: withPeers.set(t)})
	defer plain.Close()
	ts := httptest.NewServer(plain.GuardPeers(reached))
	defer ts.Close()
	guarded, tls1 := serve(api.ServerOptions{Tokens: withPeers.set(t)})
	byCert, tls2 := serve(api.ServerOptions{Tokens: without.set(t)})
	open, tls3 := serve(api.ServerOptions{})
	for _, c := range []struct {
		name, url, token string
		server           *httptest.Server
		cert             *tls.Certificate
		want             int
	}{
		{"nobody, no TLS", ts.URL, "", ts, nil, 401},
		{"a peer, no TLS", ts.URL, roles[access.Peer], ts, nil, 200},
		{"nobody", guarded, "", tls1, nil, 401},
		{"combiner", guarded, roles[access.Combiner], tls1, nil, 403},
		{"reader", guarded, roles[access.Reader], tls1, nil, 403},
		{"operator", guarded, roles[access.Operator], tls1, nil, 403},
		{"peer", guarded, roles[access.Peer], tls1, nil, 200},
		{"expired", guarded, expired, tls1, nil, 401},
		{"stranger", guarded, access.NewToken(), tls1, nil, 401},
		{"a certificate where tokens are asked for", guarded, "", tls1, &ours, 401},
		{"an operator with a certificate", guarded, roles[access.Operator], tls1, &ours, 403},
		{"a certificate", byCert, "", tls2, &ours, 200},
		{"nobody, where certificates are asked for", byCert, "", tls2, nil, 401},
		{"an operator, where certificates are asked for", byCert, operator, tls2, nil, 403},
		{"a wrong token and a certificate", byCert, access.NewToken(), tls2, &ours, 401},
		{"anybody without tokens", open, "", tls3, nil, 200},
	} {
		hc := c.server.Client()
		if tr, ok := hc.Transport.(*http.Transport); ok {
			tr = tr.Clone()
			tr.DisableKeepAlives = true
			if c.cert != nil {
				tr.TLSClientConfig.Certificates = []tls.Certificate{*c.cert}
			}
			hc = &http.Client{Transport: tr}
		}
		for _, method := range []string{"GET", "POST", "PUT", "DELETE", "HEAD"} {
			r, err := http.NewRequestWithContext(t.Context(), method, c.url+"/v1/peer/entries", strings.NewReader("x"))
			if err != nil {
				t.Fatal(err)
			}
			if c.token != "" {
				r.Header.Set("Authorization", "Bearer "+c.token)
			}
			resp, err := hc.Do(r)
			if err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			b, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if resp.StatusCode != c.want || (resp.StatusCode != 200) != (method == "HEAD" && len(b) == 0 && c.want != 200 || strings.Contains(string(b), "urn:fedmesh:problem:")) {
				t.Errorf("%s, %s: %d, %s; want %d", c.name, method, resp.StatusCode, b, c.want)
			}
		}
	}
	// A certificate of others is no certificate: the handshake fails.
	tr, ok := tls2.Client().Transport.(*http.Transport)
	if !ok {
		t.Fatal("another transport")
	}
	tr = tr.Clone()
	tr.TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &foreign, nil }
	if resp, err := (&http.Client{Transport: tr}).Get(byCert); err == nil {
		_ = resp.Body.Close()
		t.Errorf("a foreign certificate: %d", resp.StatusCode)
	}
	tr.CloseIdleConnections()
}

func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// TestClientShowsItsToken on every request, and says what is wrong with it.
func TestClientShowsItsToken(t *testing.T) {
	var file tokens
	combiner := file.add(t, access.Grant{Role: access.Combiner, Sessions: []string{"s"}})
	f := newFake().with("s", someModel(t, 4, 1))
	_, url := start(t, f, api.ServerOptions{Tokens: file.set(t)})
	ctx := within(t, ample)
	good := client(t, api.ClientOptions{Token: combiner}, url)
	if _, err := good.Push(ctx, "s", api.PushOptions{Combiner: "c", Weight: 1, Base: "latest"}, api.Bytes([]byte("x"))); err != nil {
		t.Error(err)
	}
	if _, err := good.Pull(ctx, "s", api.PullOptions{}, io.Discard); err != nil {
		t.Error(err)
	}
	if _, err := good.Mesh(ctx); !api.TypeForbidden.Is(err) || !strings.Contains(fmt.Sprint(err), "reader or operator") {
		t.Errorf("the mesh: %v", err)
	}
	for _, c := range []*api.Client{client(t, api.ClientOptions{}, url), client(t, api.ClientOptions{Token: access.NewToken()}, url)} {
		if _, err := c.Pull(context.Background(), "s", api.PullOptions{}, io.Discard); !api.TypeUnauthorized.Is(err) {
			t.Errorf("without a good token: %v", err)
		}
	}
}
