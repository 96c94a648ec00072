// Package certs holds the certificate of a peer or a client, its key, and the
// authorities it trusts. They are read from PEM files, and read again while they
// are in use, so that certificates are renewed without a restart.
//
//	store, err := certs.Open(certs.Files{Cert: "peer.pem", Key: "peer.key", CA: "ca.pem"}, log)
//	if err != nil { ... }
//	go store.Watch(ctx, 5*time.Second, hup)
//	listener = tls.NewListener(listener, store.Server(certs.None))
//	transport.DialTLSContext = store.Dialer(nil)
//
// # Renewal
//
// Watch looks at the content of the files every few seconds, and at once when it
// is signalled. New files take effect for connections made from then on; those
// under way go on. Files that do not fit together, or cannot be read, change
// nothing: what was read before stays in use, an error is logged, once for each
// content, and counted. So a certificate and its key may be written one after
// the other. Nor is a certificate that is good now replaced with one that has
// expired or is not valid yet.
//
// To change the authority: put the old and the new into one bundle everywhere,
// then give out new certificates, then take the old authority out.
//
// # Who is a peer
//
// With a CA the routes between peers want a certificate that VerifyPeer takes: by
// one of the CA's, in time, and good for servers as well as for clients. Peers
// are both. What combiners and people are given should be good for clients only;
// then it opens nothing between peers. Any peer's certificate is as good as
// another's: which peer it names is not compared with what the caller says it is.
//
// A peer's own address, as others are told it, must be among the names of its
// certificate.
//
// # TLS
//
// At least TLS 1.2, usually 1.3; HTTP/1.1 within. Sessions are not resumed, so that
// every connection is judged by what is in force. Revocation lists and OCSP are not
// looked at: give out certificates for short times.
//
// # Concurrency
//
// All methods may be called from any goroutine. Watch runs until its context ends.
package certs
