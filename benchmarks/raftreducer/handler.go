package main

import (
	"encoding/json"
	"io"
	"net/http"
	"time"

	"github.com/fedmesh/fedmesh/benchmarks/kill/raftctl"
	"github.com/fedmesh/fedmesh/model"
)

const (
	proposePath = "/v1/peer/propose"
	blobPath    = "/v1/peer/blobs/"
	maxCommand  = 16 << 20
)

// handler serves the other processes.
func (co *coordinator) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+raftctl.Path, func(w http.ResponseWriter, _ *http.Request) {
		answer(w, raftctl.State{Self: co.self, Leader: co.leader()}, nil)
	})
	mux.HandleFunc("POST "+raftctl.Path, func(w http.ResponseWriter, r *http.Request) {
		var servers []raftctl.Server
		err := json.NewDecoder(io.LimitReader(r.Body, maxCommand)).Decode(&servers)
		if err == nil {
			err = co.form(servers)
		}
		answer(w, struct{}{}, err)
	})
	mux.HandleFunc("POST "+proposePath, func(w http.ResponseWriter, r *http.Request) {
		data, err := io.ReadAll(io.LimitReader(r.Body, maxCommand))
		if err != nil {
			answer(w, nil, err)
			return
		}
		result, err := co.apply(data)
		answer(w, result, err)
	})
	mux.HandleFunc("GET "+blobPath+"{digest}", func(w http.ResponseWriter, r *http.Request) {
		d, err := model.ParseDigest(r.PathValue("digest"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		b, err := co.node.Blobs().Open(d)
		if err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
		defer b.Close()
		http.ServeContent(w, r, "", time.Time{}, b)
	})
	mux.HandleFunc("PUT "+blobPath+"{digest}", func(w http.ResponseWriter, r *http.Request) {
		d, err := model.ParseDigest(r.PathValue("digest"))
		if err == nil && !co.node.Blobs().Has(d) {
			err = co.node.Receive(r.Context(), r.Body, d)
		}
		answer(w, struct{}{}, err)
	})
	return mux
}

// answer answers with JSON; with 503 when something failed, for it may go
// elsewhere or later.
func answer(w http.ResponseWriter, v any, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // who asked will ask again
}
