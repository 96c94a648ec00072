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
// # Uploads that survive
//
// An update can also be pushed over several connections, one after the other, in tus 1.0.0 (core, creation, creation-with-upload, expiration,
// termination), which has clients in most languages:
//
//	POST   /v1/sessions/{session}/updates/{combiner}?weight=&base=&id=   Upload-Length: N    201, Location: /v1/uploads/{upload}
//	HEAD   /v1/uploads/{upload}                                         200, Upload-Offset, Upload-Length, Upload-Expires
//	PATCH  /v1/uploads/{upload}   Upload-Offset: where it stands        204, Upload-Offset
//	GET    /v1/uploads/{upload}                                         the receipt, as of PUT, or the problem it ended with
//	DELETE /v1/uploads/{upload}                                         204
//
// The parameters are those of PUT. The id or the base must be given: without, an update's id is the digest of its bytes, and an upload that
// is begun anew after a lost answer would count twice. What can be refused without a byte is refused at the creation; a fault of the
// content is the answer to the piece with the fault and, for ten minutes, to all that is asked about the upload. The last piece is
// answered, and a whole upload told of by HEAD, once the update is held by as many peers as PUT would have had hold it.
//
// The path is the same at every peer that has some of the upload: the one it was begun at, and the one that this streams it to
// while it arrives. When the first dies the other becomes the acceptor. Client.Push does this for bodies from ClientOptions.ResumeFrom on: it
// asks the peer that it was at how far it came, then the others, goes on at the one that has most, and begins anew when none has any.
//
// At most 4 MiB are sent twice, in one PATCH or many: the buffers of the sockets on the way are bounded (512 KiB each, of
// which the kernel makes twice that), the peer reads no further ahead than 128 KiB, and what was on its way to the second peer when the first
// died is taken before the client goes on there. The price is that one upload has no more than about 1 MiB in flight: 25 MB/s
// over 40 ms. Other clients than ours bound their own send buffer, or send pieces of at most 4 MiB.
//
// An upload is ended when its first byte does not come within a minute, when none comes for ten minutes, and after a day. A connection that
// stalls is ended after Timeouts.BodyIdle, as any other, and the upload waits for the next; a half open one is cut off by the HEAD or PATCH of
// who goes on. A peer has no more than 256 uploads that are not whole, each with one goroutine, one temporary file and the room that
// it takes on the disk, whatever Upload-Length says; further ones get 503.
//
// # Who may come, and how often
//
// With ServerOptions.Tokens each route asks for a token of some role, as openapi.json says under security, in the header Authorization; package access has the
// roles. The rules are in access.go; a route without one is the operator's. Server.GuardPeers does the same for the peer plane that a peer serves beside this. Browsers, which
// put no header on an event stream, trade a token for a cookie at POST /v1/login. Without Tokens everybody may do everything.
//
// ServerOptions.Limits bounds how many models are received at a time and how many requests a caller makes. Who is too many is answered with 503 or 429 and Retry-After,
// which Client obeys.
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
