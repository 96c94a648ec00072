package api

import (
	"fmt"
	"net/http"

	"github.com/fedmesh/fedmesh/mesh/api/ui"
)

// pageRoutes serve the dashboard. Its files are the same for everybody.
func (s *Server) pageRoutes() []route {
	page := ui.Handler()
	serve := func(w *response, r *http.Request) error {
		if !page.Has(r.URL.Path) {
			return NewProblem(TypeUnknownRoute, http.StatusNotFound, "Unknown route", fmt.Sprintf("the page has no file %+q", clip(r.URL.Path)))
		}
		page.ServeHTTP(w, r)
		return nil
	}
	return []route{{http.MethodGet, "/{$}", serve}, {http.MethodGet, ui.Prefix + "{file}", serve}}
}
