// Package mesh is one peer of a fedmesh: it accepts combiners' updates, replicates them and the ledger, and computes every round's
// model without a leader.
//
// The peer is a thin shell around ledger.Replica, which makes all decisions. It lends it a clock, a log on disk, gossip for who is
// there and for new ledger entries, HTTP between the peers' API ports for everything large, and goroutines that compute:
//
//	loop          asks the replica what to do, writes and publishes its entries, starts the work it asks for
//	exchangeLoop  anti-entropy: catches up after the start and after a stall, then with a random peer now and then
//	repairLoop    copies updates with too few living holders, deletes what is final,
//	              compacts the log
//	scrubLoop     reads what is on the disk, slowly, and has what is damaged fetched again
//
// # What an acknowledgement means
//
// Push answers when as many peers as the session's copies (fewer only when fewer live, and the receipt names them) hold the bytes
// and have said so durably in their own logs. An update that only one peer holds is synced to disk first, whatever --fsync auto would
// do otherwise.
//
// # Order of writes
//
// All admitted entries, the own and the others', are records of one log in the order of their admission, so syncing an own entry
// syncs what it names. Own entries are shown to nobody, and counted in no vector that leaves the peer, before they are durable.
// A peer gives its word for a model (RoundComputed) when the model, its server state, and what it has of the updates and bases that it was
// computed from are durable. It serves the model before: what it served is noted in made.json, which outlives the process.
//
// # What is kept
//
// The log is compacted behind final rounds, and who joins later gets the ledger's state in place of the entries that are gone (ledger/RULES.md,
// Compaction). What was counted is known for ever; who held, sealed and computed what, only for the last rounds. Updates' bytes go with their
// round's finality.
//
// # Bytes that move
//
// A push is read once: one pass hashes, checks and writes it, and sends it on to the other holders; npz is converted on the way. By resumable upload it goes the same way, once, over several
// connections, and where the acceptor dies its second holder accepts the rest (uploads.go, package upload). A round is
// summed from the updates that are here and, for those that are not, from exact sums that holders compute on request or gossip
// at their seal, so that no peer needs every update. Strategies that compare updates fetch them.
//
// Where several rounds have to be computed in a row, as after a partition, one peer goes ahead and fetches for the next rounds while it
// computes; the others take the last of its models (turns.go, lookahead.go).
//
// # Encryption
//
// With Config.Keyring gossip is encrypted, with Config.TLS what peers ask of each other goes over TLS, and PeerHandler lets only peers in. All
// peers of a mesh do alike; those that do not are ignored, and the log says so. ChangeKeys has all of them change their keys: orders travel
// sealed with the primary key (keys.go). Over TLS models are not sent by the kernel alone (sendfile).
//
// # Noise
//
// Sessions with differential privacy draw their noise from Config.Secret, which all peers of a mesh share; peers with different ones do
// not go together. SessionInfo.Privacy adds up what the published models cost.
//
// # Logs
//
// At the level info stands what somebody who runs a mesh wants to know, about one line a round: who comes and goes, rounds that are final, what was compacted.
// A warning is something to look at, an error something to act on. What repeats is written once a minute, with how many lines were left out. Every push,
// copy and request is there at the level debug. The fields, the same in all packages, are
//
//	self      this peer's name
//	peer      another peer's name
//	session   a session's name
//	combiner  who pushed an update
//	id        the update's id, within session and combiner
//	request   the id of the request that it is for, the same at all peers that have to do with it; try: which try of a push it is
//	round     a round's number
//	model     a digest: of a model, an update, or a server state; got: what came instead
//	copies    names of the peers that hold an update
//	took      milliseconds
//	bytes     a size; received, sent: of bodies of a request and its answer
//	method, path, status, remote  of a request, its answer, and who made it
//	file      a path on this machine
//	address   host:port of gossip
//	entries, updates, rounds, sums, peers, keys  how many
//	part      memberlist, for lines of that library
//	skipped   how many lines like this one were left out before it
//	error     why
//
// # Concurrency
//
// Peer.mu guards the replica and all state beside it; it is held for no I/O but appending to the log. Work on models runs outside
// it, one piece a session at a time. Every goroutine belongs to the peer and ends with Close, except those of requests, which end
// with the request.
//
//	cfg := mesh.DefaultConfig()
//	cfg.Name, cfg.DataDir, cfg.API, cfg.Gossip = "a", "a", "127.0.0.1:8080", "127.0.0.1:7946"
//	peer, err := mesh.New(cfg)
//	…
//	mux.Handle("/v1/peer/", peer.PeerHandler())
//	mux.Handle("/", api.NewServer(peer, api.ServerOptions{}))
//	err = peer.Start(ctx)
package mesh
