// Package api is how the outside talks to a peer: the types and problems of the HTTP API, a server over a Backend, and a
// client that moves from peer to peer until one of them has done the work.
//
// The server is a plain http.Handler. It checks names, parameters and sizes, moves bodies without holding them, and
// turns the backend's errors into problem+json (RFC 9457) with a stable type. What it serves is written down in
// openapi.json, which it serves too.
//
//	srv := api.NewServer(backend, api.ServerOptions{Logger: log})
//	hs := srv.HTTPServer(srv)
//	go hs.Serve(listener)
//	defer hs.Shutdown(ctx) // ends event streams and long polls as well
//
// The client is given some peers of a mesh:
//
//	c, err := api.NewClient([]string{"10.0.0.1:8080", "10.0.0.2:8080"}, api.ClientOptions{})
//	receipt, err := c.Push(ctx, "mnist", api.PushOptions{Combiner: "c1", Weight: 640, Base: "latest"}, api.File("update.npz"))
//
// It resolves an update's base and id once, before the first attempt, and sends both with every attempt, so that an
// update whose acknowledgement was lost is recognised wherever it arrives again. Unless told otherwise it goes on until
// the context ends.
//
// # Concurrency
//
// Server and Client may be used from many goroutines. A Backend is called from many goroutines. Neither starts goroutines that
// outlive a call, except those of net/http; Close them.
//
// # Names
//
// Sessions, combiners and metrics have names of 1 to 128 characters of A-Z a-z 0-9 . _ - that do not start with a dot; an
// update's id is 1 to 128 printable ASCII characters without slashes, backslashes and spaces. Digests are 64 hex digits.
package api
