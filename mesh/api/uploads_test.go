package api_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/upload"
)

// taker is a fake that takes uploads.
type taker struct {
	*fake
	set *upload.Set
}

func (f *taker) Uploads() api.Uploads { return f.set }

// taking makes f one; the caller closes its set.
func taking(f *fake, o upload.Options) *taker {
	return &taker{f, upload.New(func(_ string, req api.PushRequest) upload.Work { return &pushWork{f: f, req: req} }, o)}
}

// pushWork pushes an upload to a fake.
type pushWork struct {
	f       *fake
	req     api.PushRequest
	receipt api.Receipt
}

func (w *pushWork) Take(ctx context.Context, body io.Reader) (err error) {
	w.req.Body = body
	w.receipt, err = w.f.Push(ctx, w.req)
	return err
}

func (w *pushWork) Owner() (session, combiner string) { return w.req.Session, w.req.Combiner }

func (w *pushWork) Finish(context.Context) (api.Receipt, error) { return w.receipt, nil }

const (
	updates = "/v1/sessions/s/updates/c"
	pieces  = "application/offset+octet-stream"
)

// tus makes a request as a tus client does.
func tus(t testing.TB, method, url string, body io.Reader, header ...string) *http.Response {
	t.Helper()
	return do(t, method, url, body, append([]string{"Tus-Resumable", "1.0.0"}, header...)...)
}

// begin creates an upload and returns its URL.
func begin(t testing.TB, url string, length int, query string) string {
	t.Helper()
	resp := tus(t, "POST", url+updates+"?weight=3&id="+query, nil, "Upload-Length", strconv.Itoa(length))
	at := resp.Header.Get("Location")
	if resp.StatusCode != 201 || !strings.HasPrefix(at, "/v1/uploads/") {
		t.Fatalf("status %d, Location %q", resp.StatusCode, at)
	}
	return url + at
}

func piece(t testing.TB, at string, offset int, body string) *http.Response {
	t.Helper()
	return tus(t, "PATCH", at, strings.NewReader(body), "Content-Type", pieces, "Upload-Offset", strconv.Itoa(offset))
}

func stands(t testing.TB, at string, offset int) {
	t.Helper()
	resp := tus(t, "HEAD", at, nil)
	h := resp.Header
	if resp.StatusCode != 200 || h.Get("Upload-Offset") != strconv.Itoa(offset) || h.Get("Upload-Length") != "20" || h.Get("Cache-Control") != "no-store" {
		t.Errorf("status %d, %v; want offset %d of 20", resp.StatusCode, h, offset)
	}
	if _, err := http.ParseTime(h.Get("Upload-Expires")); err != nil {
		t.Errorf("expires: %v", err)
	}
}

func TestTus(t *testing.T) {
	f := taking(newFake().with("s", someModel(t, 4, 1)), upload.Options{})
	defer f.set.Close()
	_, url := start(t, f, api.ServerOptions{MaxBody: 1000})

	for _, at := range []string{updates, "/v1/uploads/x"} {
		h := do(t, "OPTIONS", url+at, nil).Header
		if h.Get("Tus-Version") != "1.0.0" || h.Get("Tus-Max-Size") != "1000" || h.Get("Tus-Extension") != "creation,creation-with-upload,expiration,termination" {
			t.Errorf("OPTIONS %s: %v", at, h)
		}
	}

	at := begin(t, url, 20, "one&base="+strings.Repeat("ab", 32)+"&metric.loss=0.5")
	stands(t, at, 0)
	resp := piece(t, at, 0, "0123456789abc")
	if h := resp.Header; resp.StatusCode != 204 || h.Get("Upload-Offset") != "13" || h.Get("Tus-Resumable") != "1.0.0" || h.Get("Upload-Expires") == "" {
		t.Fatalf("status %d, %v", resp.StatusCode, resp.Header)
	}
	stands(t, at, 13)
	if p := problem(t, do(t, "GET", at, nil)); !api.TypeUploadIncomplete.Is(p) || p.Extra["offset"] != 13.0 {
		t.Errorf("a receipt without all bytes: %v", p)
	}
	resp = piece(t, at, 12, "cdefghij")
	if p := problem(t, resp); !api.TypeUploadConflict.Is(p) || resp.Header.Get("Upload-Offset") != "13" {
		t.Errorf("a wrong offset: %v", p)
	}
	if p := problem(t, piece(t, at, 13, "defghijk")); !api.TypeInvalidRequest.Is(p) {
		t.Errorf("too much: %v", p)
	}
	if resp := piece(t, at, 13, "defghij"); resp.StatusCode != 204 || resp.Header.Get("Upload-Offset") != "20" {
		t.Fatalf("status %d, %v", resp.StatusCode, resp.Header)
	}
	stands(t, at, 20)
	b, _ := io.ReadAll(do(t, "GET", at, nil).Body)
	if !strings.Contains(string(b), `"id":"one"`) {
		t.Errorf("receipt %s", b)
	}
	req := f.pushed()[0]
	if string(f.bodies[0]) != "0123456789abcdefghij" || req.Weight != 3 || req.Length != 20 || req.Metrics["loss"] != 0.5 || req.Base != strings.Repeat("ab", 32) {
		t.Errorf("pushed %+v, %q", req, f.bodies[0])
	}

	// Given up.
	at = begin(t, url, 20, "two")
	piece(t, at, 0, "0123")
	if resp := tus(t, "DELETE", at, nil); resp.StatusCode != 204 {
		t.Errorf("status %d", resp.StatusCode)
	}
	for _, method := range []string{"HEAD", "PATCH", "DELETE", "GET"} {
		resp := tus(t, method, at, strings.NewReader(""), "Content-Type", pieces, "Upload-Offset", "4")
		if resp.StatusCode != 404 || resp.Header.Get("Upload-Offset") != "" {
			t.Errorf("%s of an upload that was given up: status %d", method, resp.StatusCode)
		}
	}

	// Created with a piece, and by a client that can only POST.
	resp = tus(t, "POST", url+updates+"?weight=3&id=three", strings.NewReader("0123"), "Upload-Length", "6", "Content-Type", pieces, "Upload-Metadata", "name dQ==")
	if resp.StatusCode != 201 || resp.Header.Get("Upload-Offset") != "4" {
		t.Fatalf("status %d, %v", resp.StatusCode, resp.Header)
	}
	at = url + resp.Header.Get("Location")
	resp = tus(t, "POST", at, nil, "X-HTTP-Method-Override", "HEAD")
	if h := resp.Header; h.Get("Upload-Offset") != "4" || h.Get("Upload-Metadata") != "name dQ==" {
		t.Errorf("status %d, %v", resp.StatusCode, h)
	}
	resp = tus(t, "POST", at, strings.NewReader("45"), "Content-Type", pieces, "Upload-Offset", "4", "X-HTTP-Method-Override", "PATCH")
	if resp.StatusCode != 204 || resp.Header.Get("Upload-Offset") != "6" {
		t.Errorf("status %d, %v", resp.StatusCode, resp.Header)
	}
	if resp := tus(t, "POST", at, nil, "X-HTTP-Method-Override", "DELETE"); resp.StatusCode != 204 {
		t.Errorf("status %d", resp.StatusCode)
	}
}

func TestTusRefusals(t *testing.T) {
	f := taking(newFake().with("s", someModel(t, 4, 1)), upload.Options{Most: 2})
	defer f.set.Close()
	_, url := start(t, f, api.ServerOptions{MaxBody: 1000})
	at := strings.TrimPrefix(begin(t, url, 20, "one"), url)
	good := updates + "?weight=1&id=u"
	for _, tt := range []struct {
		method, path, body string
		header             []string
		status             int
		says               string
	}{
		{"POST", good, "", []string{"Upload-Length", "5", "Tus-Resumable", "0.2.2"}, 412, "0.2.2"},
		{"PATCH", at, "x", []string{"Content-Type", pieces, "Upload-Offset", "0", "Tus-Resumable", ""}, 412, "1.0.0"},
		{"POST", good, "", nil, 400, "Upload-Length is missing"},
		{"POST", good, "", []string{"Upload-Length", "-1"}, 400, "not a number"},
		{"POST", good, "", []string{"Upload-Length", "1e3"}, 400, "not a number"},
		{"POST", good, "", []string{"Upload-Length", "9223372036854775808"}, 400, "not a number"},
		{"POST", good, "", []string{"Upload-Length", "9223372036854775807"}, 413, "1000"},
		{"POST", good, "", []string{"Upload-Length", "1001"}, 413, "1000"},
		{"POST", good, "", []string{"Upload-Length", "0"}, 400, "no model"},
		{"POST", good, "", []string{"Upload-Length", "5", "Upload-Defer-Length", "1"}, 400, "must be known"},
		{"POST", good, "", []string{"Upload-Length", "5", "Upload-Metadata", strings.Repeat("x", 5000)}, 400, "4096"},
		{"POST", good, "x", []string{"Upload-Length", "5", "Content-Type", "text/plain"}, 415, "text/plain"},
		{"POST", good + "&wight=2", "", []string{"Upload-Length", "5"}, 400, "wight"},
		{"POST", updates + "?weight=1", "", []string{"Upload-Length", "5"}, 400, "an id or a base"},
		{"POST", updates + "?id=u", "", []string{"Upload-Length", "5"}, 400, "weight is missing"},
		{"POST", "/v1/sessions/none/updates/c?weight=1&id=u", "", []string{"Upload-Length", "5"}, 404, "none"},
		{"PATCH", at, "x", []string{"Content-Type", "application/octet-stream", "Upload-Offset", "0"}, 415, "offset+octet-stream"},
		{"PATCH", at, "x", []string{"Content-Type", pieces, "Upload-Offset", "0", "Content-Encoding", "gzip"}, 415, "gzip"},
		{"PATCH", at, "x", []string{"Content-Type", pieces}, 400, "Upload-Offset is missing"},
		{"PATCH", at, "x", []string{"Content-Type", pieces, "Upload-Offset", "+0"}, 400, "not a number"},
		{"PATCH", at, "x", []string{"Content-Type", pieces, "Upload-Offset", "1"}, 409, "stands at 0"},
		{"PATCH", at + "?x=1", "x", []string{"Content-Type", pieces, "Upload-Offset", "0"}, 400, `"x"`},
		{"PATCH", "/v1/uploads/..x", "x", []string{"Content-Type", pieces, "Upload-Offset", "0"}, 400, "dot"},
		{"PATCH", "/v1/uploads/none", "x", []string{"Content-Type", pieces, "Upload-Offset", "0"}, 404, "none"},
		{"POST", at, "x", []string{"Content-Type", pieces, "Upload-Offset", "0"}, 405, "PATCH"},
		{"POST", at, "x", []string{"X-HTTP-Method-Override", "BREW"}, 405, "BREW"},
	} {
		var body io.Reader
		if tt.body != "" {
			body = strings.NewReader(tt.body)
		}
		resp := tus(t, tt.method, url+tt.path, body, tt.header...)
		p := problem(t, resp)
		if p.Status != tt.status || !strings.Contains(p.Detail, tt.says) || resp.Header.Get("Tus-Resumable") != "1.0.0" {
			t.Errorf("%s %s %q: %v", tt.method, tt.path, tt.header, p)
		}
	}
	stands(t, url+at, 0)
	begin(t, url, 5, "two")
	if p := problem(t, tus(t, "POST", url+good, nil, "Upload-Length", "5")); p.Status != 503 {
		t.Errorf("beyond the limit: %v", p)
	}
	if n := len(f.bodies); n != 0 {
		t.Errorf("%d updates", n)
	}
	// A backend that takes none.
	_, plain := start(t, newFake().with("s", someModel(t, 4, 1)), api.ServerOptions{})
	if p := problem(t, tus(t, "POST", plain+good, nil, "Upload-Length", "5")); !api.TypeUnknownRoute.Is(p) {
		t.Error(p)
	}
}

// TestTusContentRefused checks that the piece with the fault is answered with it, and the upload from then on.
func TestTusContentRefused(t *testing.T) {
	f := taking(newFake().with("s", someModel(t, 4, 1)), upload.Options{})
	defer f.set.Close()
	f.onPush = func(_ context.Context, req api.PushRequest) (api.Receipt, error) {
		_, err := io.ReadFull(req.Body, make([]byte, 10))
		if err == nil {
			err = api.InvalidValue("w", 3, "NaN", "")
		}
		return api.Receipt{}, err
	}
	_, url := start(t, f, api.ServerOptions{})
	at := begin(t, url, 1<<20, "u")
	if resp := piece(t, at, 0, "01234"); resp.StatusCode != 204 {
		t.Errorf("status %d", resp.StatusCode)
	}
	for range 2 {
		if p := problem(t, piece(t, at, 5, strings.Repeat("x", 100_000))); !api.TypeInvalidValue.Is(p) {
			t.Error(p)
		}
	}
	if p := problem(t, do(t, "GET", at, nil)); !api.TypeInvalidValue.Is(p) {
		t.Error(p)
	}
	if resp := tus(t, "HEAD", at, nil); resp.StatusCode != 422 {
		t.Errorf("status %d", resp.StatusCode)
	}
}

// TestStalledPiece checks that a connection that brings nothing is ended, and the upload later, unless somebody goes on with it.
func TestStalledPiece(t *testing.T) {
	f := newFake().with("s", someModel(t, 4, 1))
	inBubble(t, f, func(t *testing.T, n *memNet, _ *api.Server) {
		f := taking(f, upload.Options{})
		defer f.set.Close()
		srv := api.NewServer(f, api.ServerOptions{Logger: zerolog.Nop()})
		defer srv.Close()
		stop := n.serve("b:80", srv.HTTPServer(srv))
		defer stop()
		request := func(text string) (*http.Response, func()) {
			conn, err := n.dial(t.Context(), "", "b:80")
			if err != nil {
				t.Fatal(err)
			}
			go func() { _, _ = io.WriteString(conn, text) }()
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			return resp, func() { _ = conn.Close() }
		}
		const version = " HTTP/1.1\r\nHost: b\r\nTus-Resumable: 1.0.0\r\n"
		resp, done := request("POST " + updates + "?weight=1&id=u" + version + "Upload-Length: 100\r\n\r\n")
		done()
		at := resp.Header.Get("Location")
		patch := "PATCH " + at + version + "Content-Type: " + pieces + "\r\n"
		start := time.Now()
		resp, done = request(patch + "Upload-Offset: 0\r\nContent-Length: 100\r\n\r\n0123456789")
		if p := problem(t, resp); !api.TypeBodyTimeout.Is(p) || time.Since(start) < 59*time.Second || time.Since(start) > 70*time.Second {
			t.Errorf("after %v: %v", time.Since(start), p)
		}
		done()
		// Half open: it still brings it, as far as the server can tell.
		half, err := n.dial(t.Context(), "", "b:80")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(half, patch+"Upload-Offset: 10\r\nContent-Length: 90\r\n\r\nabcde")
		synctest.Wait()
		start = time.Now()
		resp, done = request("HEAD " + at + version + "\r\n")
		if resp.Header.Get("Upload-Offset") != "15" || time.Since(start) > time.Second {
			t.Errorf("after %v: status %d, %v", time.Since(start), resp.StatusCode, resp.Header)
		}
		done()
		cut, err := http.ReadResponse(bufio.NewReader(half), nil)
		if err != nil {
			t.Fatal(err)
		}
		if p := problem(t, cut); !api.TypeUploadConflict.Is(p) {
			t.Errorf("who was cut off hears %v", p)
		}
		_ = half.Close()
		time.Sleep(11 * time.Minute)
		resp, done = request("HEAD " + at + version + "\r\n")
		if resp.StatusCode != 404 {
			t.Errorf("status %d after it expired", resp.StatusCode)
		}
		done()
	})
}

// TestChunkedPieces checks bodies of unknown length.
func TestChunkedPieces(t *testing.T) {
	f := taking(newFake().with("s", someModel(t, 4, 1)), upload.Options{})
	defer f.set.Close()
	_, url := start(t, f, api.ServerOptions{})
	at := begin(t, url, 10, "u")
	chunked := func(offset int, text string) *http.Response {
		return tus(t, "PATCH", at, io.MultiReader(strings.NewReader(text)), "Content-Type", pieces, "Upload-Offset", fmt.Sprint(offset))
	}
	if resp := chunked(0, "01234"); resp.StatusCode != 204 || resp.Header.Get("Upload-Offset") != "5" {
		t.Fatalf("status %d, %v", resp.StatusCode, resp.Header)
	}
	if resp := chunked(5, "56789"); resp.StatusCode != 204 || resp.Header.Get("Upload-Offset") != "10" {
		t.Fatalf("status %d, %v", resp.StatusCode, resp.Header)
	}
	at = begin(t, url, 10, "v")
	if p := problem(t, chunked(0, "0123456789a")); !api.TypeInvalidRequest.Is(p) {
		t.Error(p)
	}
	if !bytes.Equal(bytes.Join(f.bodies, nil), []byte("0123456789")) {
		t.Errorf("pushed %q", f.bodies)
	}
}

// FuzzTus: whatever a request for an upload says, it is answered, never as a fault of the server's, and what is taken stays within what was announced.
func FuzzTus(f *testing.F) {
	f.Add("POST", updates+"?weight=1&id=u", "10", "", "", "name dQ==", pieces, []byte("01234"))
	f.Add("PATCH", "", "", "0", "", "", pieces, []byte("0123456789"))
	f.Add("POST", "", "", "0", "PATCH", "", pieces+"; x=y", []byte("0123456789a"))
	f.Add("HEAD", "", "-1", "18446744073709551616", "", "", "", []byte{})
	f.Add("DELETE", "", "1e9", "0x10", "HEAD", "\x00", "text/plain", []byte("x"))
	f.Fuzz(func(t *testing.T, method, path, length, offset, override, metadata, kind string, body []byte) {
		b := taking(newFake().with("s", someModel(t, 4, 1)), upload.Options{})
		defer b.set.Close()
		srv := api.NewServer(b, api.ServerOptions{MaxBody: 1000})
		defer srv.Close()
		u, err := b.set.Create(t.Context(), api.PushRequest{Session: "s", Combiner: "c", ID: "v", Weight: 1, Length: 10}, "")
		if err != nil {
			t.Fatal(err)
		}
		if path == "" {
			path = "/v1/uploads/" + u.Name
		}
		// What comes of a connection has a method and a target that net/http has read.
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader("GET / HTTP/1.1\r\nHost: a\r\n\r\n")))
		if err != nil {
			t.Fatal(err)
		}
		if r.URL, err = url.ParseRequestURI(path); err != nil || method == "" {
			return
		}
		r.Method, r.Body, r.ContentLength = method, io.NopCloser(bytes.NewReader(body)), int64(len(body))
		for k, v := range map[string]string{
			"Tus-Resumable": "1.0.0", "Upload-Length": length, "Upload-Offset": offset, "X-Http-Method-Override": override,
			"Upload-Metadata": metadata, "Content-Type": kind,
		} {
			r.Header.Set(k, v)
		}
		w := httptest.NewRecorder()
		srv.ServeHTTP(w, r.WithContext(t.Context()))
		if w.Code >= 500 && w.Code != http.StatusServiceUnavailable {
			t.Errorf("%s %q: status %d, %s", method, path, w.Code, w.Body)
		}
		for _, got := range b.bodies {
			if len(got) > 1000 {
				t.Errorf("%d bytes", len(got))
			}
		}
	})
}
