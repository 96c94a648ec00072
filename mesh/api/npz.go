package api

import (
	"fmt"
	"net/http"
	"strconv"

	"github.com/fedmesh/fedmesh/model/codec"
	"github.com/fedmesh/fedmesh/model/npz"
)

// serveNPZ converts a model while it leaves. A conversion has no ranges, but its length is known.
func serveNPZ(w *response, r *http.Request, m Model) error {
	h := w.Header()
	if etagMatches(r.Header.Get("If-None-Match"), m.Digest.String()) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	h.Set("Content-Type", mediaNPZ)
	h.Set("Accept-Ranges", "none")
	h.Set("Content-Length", strconv.FormatInt(npz.Size(m.Layout), 10))
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return nil
	}
	if err := codec.Emit(w, codec.NPZ, m.Layout, m.Blob); err != nil {
		return fmt.Errorf("api: sending npz: %w", err)
	}
	return nil
}
