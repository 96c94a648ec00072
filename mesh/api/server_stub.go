package api

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// Timeouts of a server. Zero fields take the defaults.
type Timeouts struct {
	Header    time.Duration // for a request's header; 10 s
	Idle      time.Duration // between two requests of a connection; 2 m
	BodyIdle  time.Duration // an upload that brings less than 16 KiB in this time of waiting dies; 60 s
	WriteIdle time.Duration // an answer that takes nothing for so long dies; 60 s
	MaxWait   time.Duration // longest long-poll; 5 m
	Heartbeat time.Duration // between comments on an idle event stream; 15 s
}

// ServerOptions tunes a server. The zero value is good.
type ServerOptions struct {
	Logger     zerolog.Logger
	Registerer prometheus.Registerer // nil: no metrics of the server's own
	Gatherer   prometheus.Gatherer   // nil: no /metrics
	MaxBody    int64                 // bytes of a model; default 64 GiB
	Timeouts   Timeouts
}

// Server serves the API over a Backend.
type Server struct{}

// NewServer makes a server. Close ends its streams.
func NewServer(b Backend, o ServerOptions) *Server { return &Server{} }

// ServeHTTP serves one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {}

// Close ends event streams and long polls.
func (s *Server) Close() {}

// HTTPServer wraps a handler into an http.Server with this server's header and idle timeouts. The caller serves and shuts it down;
// its Shutdown closes s.
func (s *Server) HTTPServer(h http.Handler) *http.Server { return &http.Server{Handler: h} }
