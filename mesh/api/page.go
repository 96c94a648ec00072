package api

import (
	_ "embed" // for page.html
	"html/template"
	"net/http"
	"strings"
)

//go:embed page.html
var pageSource string

func (s *Server) pageRoutes() []route {
	page := template.Must(template.New("page").Funcs(template.FuncMap{"short": short, "join": strings.Join}).Parse(pageSource))
	return []route{{http.MethodGet, "/{$}", func(w *response, _ *http.Request) error {
		var b strings.Builder
		ready := ""
		if err := s.backend.Ready(); err != nil {
			ready = detail(err)
		}
		if err := page.Execute(&b, struct {
			Mesh     MeshInfo
			Sessions []SessionInfo
			NotReady string
		}{s.backend.Mesh(), s.backend.Sessions(), ready}); err != nil {
			return err
		}
		h := w.Header()
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		_, err := w.Write([]byte(b.String()))
		return err
	}}}
}

// short is a digest's beginning, as people compare it.
func short(digest string) string {
	if len(digest) > 8 {
		return digest[:8]
	}
	return digest
}
