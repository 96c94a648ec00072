package ui

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"
)

// Prefix is the path under which the page's files are.
const Prefix = "/ui/"

// policy allows what the page needs. uPlot and the page's own code set styles through the object model, which it does not concern.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// types are the kinds of files there are. The system's own table differs from machine to machine.
var types = map[string]string{
	".html": "text/html; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".svg":  "image/svg+xml",
	".md":   "text/plain; charset=utf-8",
	"":      "text/plain; charset=utf-8", // licences
}

//go:embed assets
var embedded embed.FS

// A Page is the dashboard's files, ready to be served.
type Page struct {
	files map[string]file // by URL path
}

type file struct {
	name, kind, etag string
	content          []byte
}

// Handler returns the page: index.html at "/" and the other files by their last names below Prefix.
func Handler() *Page {
	p := &Page{files: map[string]file{}}
	// The files are compiled in, so reading them cannot fail.
	_ = fs.WalkDir(embedded, "assets", func(at string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := embedded.ReadFile(at)
		if err != nil {
			return fmt.Errorf("ui: %w", err)
		}
		name := strings.TrimPrefix(at, "assets/")
		url := Prefix + path.Base(name)
		if name == "index.html" {
			url = "/"
		}
		sum := sha256.Sum256(content)
		p.files[url] = file{name: name, kind: types[path.Ext(name)], etag: `"` + hex.EncodeToString(sum[:8]) + `"`, content: content}
		return nil
	})
	return p
}

// Has reports whether there is a file at a URL's path.
func (p *Page) Has(urlPath string) bool {
	_, ok := p.files[urlPath]
	return ok
}

// ServeHTTP serves one file. Browsers keep it and ask each time whether it has changed: peers of one mesh may be of two versions for a while.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f, ok := p.files[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", f.kind)
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-cache")
	h.Set("ETag", f.etag)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.content))
}
