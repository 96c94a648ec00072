package ui_test

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/fedmesh/fedmesh/mesh/api/ui"
)

func get(t *testing.T, path string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, path, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	ui.Handler().ServeHTTP(w, r)
	return w
}

// files are the page's files in the tree, by URL path.
func files(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, pattern := range []string{"assets/*.*", "assets/*/*"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			out[ui.Prefix+filepath.Base(f)] = f
		}
	}
	if len(out) < 10 {
		t.Fatalf("only %d files", len(out))
	}
	return out
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestFiles(t *testing.T) {
	kinds := map[string]string{".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".md": "text/plain", "": "text/plain"}
	for url, name := range files(t) {
		if filepath.Base(name) == "index.html" {
			url = "/"
		}
		w := get(t, url)
		if w.Code != 200 || w.Body.String() != read(t, name) {
			t.Errorf("%s: status %d, %d bytes", url, w.Code, w.Body.Len())
		}
		if want, got := kinds[filepath.Ext(name)], w.Header().Get("Content-Type"); want == "" || !strings.HasPrefix(got, want) {
			t.Errorf("%s is %s, want %s", url, got, want)
		}
		if got := w.Header().Get("X-Content-Type-Options"); got != "nosniff" {
			t.Errorf("%s: X-Content-Type-Options %q", url, got)
		}
		tag := w.Header().Get("ETag")
		if w := get(t, url, "If-None-Match", tag); tag == "" || w.Code != 304 || w.Body.Len() != 0 {
			t.Errorf("%s again, with its tag %s: status %d, %d bytes", url, tag, w.Code, w.Body.Len())
		}
	}
	for _, url := range []string{"/ui/", "/ui/none.js", "/ui/assets/app.js", "/ui/../ui.go", "/index.html"} {
		if w := get(t, url); w.Code != 404 {
			t.Errorf("%s: status %d", url, w.Code)
		}
	}
}

// TestPolicy allows nothing inline and nothing from elsewhere.
func TestPolicy(t *testing.T) {
	rules := map[string]string{}
	for rule := range strings.SplitSeq(get(t, "/").Header().Get("Content-Security-Policy"), ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(rule), " ")
		rules[name] = value
	}
	for name, want := range map[string]string{
		"default-src": "'none'", "script-src": "'self'", "style-src": "'self'", "connect-src": "'self'", "img-src": "'self'",
		"base-uri": "'none'", "form-action": "'none'", "frame-ancestors": "'none'", "require-trusted-types-for": "'script'",
	} {
		if rules[name] != want {
			t.Errorf("%s is %q, want %q", name, rules[name], want)
		}
	}
}

var (
	banner    = regexp.MustCompile(`^/\*!.*\*/`) // whose a vendored file is
	reference = regexp.MustCompile(`(?:href|src)="(/ui/[^"]+)"|from '\./([^']+)'`)
	foreign   = regexp.MustCompile(`(?:https?:)?//[a-z0-9-]+(?:\.[a-z0-9-]+)+`)
	inline    = regexp.MustCompile(`<script>|<script [^>]*>[^<]|<style|\sstyle=|\son[a-z]+=|javascript:`)
	markup    = regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|createContextualFragment|srcdoc`)
)

// TestReferences wants every file that another refers to, and every file to be referred to.
func TestReferences(t *testing.T) {
	all := files(t)
	used := map[string]bool{}
	for _, name := range all {
		for _, m := range reference.FindAllStringSubmatch(read(t, name), -1) {
			url := m[1]
			if m[2] != "" {
				url = ui.Prefix + m[2]
			}
			used[url] = true
			if all[url] == "" {
				t.Errorf("%s refers to %s, which is not there", name, url)
			}
		}
	}
	for url, name := range all {
		if ext := filepath.Ext(name); !used[url] && (ext == ".js" || ext == ".css" || ext == ".svg") {
			t.Errorf("nothing refers to %s", name)
		}
	}
}

// TestNothingForeign keeps the page working without the internet, and text from becoming markup.
func TestNothingForeign(t *testing.T) {
	for _, name := range files(t) {
		text := strings.ReplaceAll(read(t, name), "http://www.w3.org/", "") // names of namespaces, not addresses
		text = banner.ReplaceAllString(text, "")
		if ext := filepath.Ext(name); ext != ".md" && ext != "" {
			if found := foreign.FindString(text); found != "" {
				t.Errorf("%s has %s", name, found)
			}
			if found := markup.FindString(text); found != "" {
				t.Errorf("%s uses %s: insert text as text", name, found)
			}
		}
		if found := inline.FindString(text); strings.HasSuffix(name, ".html") && found != "" {
			t.Errorf("%s has %q, which its policy forbids", name, found)
		}
	}
}

// TestVendored compares uPlot's files with what VENDORED.md says they are.
func TestVendored(t *testing.T) {
	table := read(t, "assets/uplot/VENDORED.md")
	for _, name := range []string{"uPlot.iife.min.js", "uPlot.min.css"} {
		sum := sha256.Sum256([]byte(read(t, "assets/uplot/"+name)))
		if row := "| " + name + " | " + hex.EncodeToString(sum[:]) + " |"; !strings.Contains(table, row) {
			t.Errorf("VENDORED.md does not say %q", row)
		}
	}
	if !strings.Contains(read(t, "assets/uplot/LICENSE"), "MIT License") {
		t.Error("uPlot's licence is not beside it")
	}
}

// TestPatternsCanFail shows each pattern what it is to find.
func TestPatternsCanFail(t *testing.T) {
	for text, p := range map[string]*regexp.Regexp{
		`<script src="https://cdn.example.org/x.js">`: foreign, `url(//fonts.example.com/a)`: foreign, `<script>alert(1)</script>`: inline, `<p style="x">`: inline,
		`<p onclick="x">`: inline, `n.innerHTML = x`: markup, `<link href="/ui/none.css">`: reference, `import { a } from './none.js'`: reference,
	} {
		if !p.MatchString(text) {
			t.Errorf("%q is not found in %s", p, text)
		}
	}
}
