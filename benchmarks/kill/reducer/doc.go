// Package reducer is what the two reducers that fedmesh is compared with share:
// all but how their processes agree.
//
// A reducer applies commands (a session opens, an update is in, a round is
// closed, the session ends) to a State, in one order. What that order is, and on
// how many disks a command and a model lie before a combiner is answered, is the
// Coordinator's business: one process with a log, or Raft.
//
//	n, err := reducer.New(dir, coordinator, reducer.Options{API: "127.0.0.1:8080"})
//	server := api.NewServer(n, api.ServerOptions{}) // the interface of a fedmesh peer
//
// Models are received, checked, hashed, summed and served by the same code as in
// fedmesh, over the same HTTP interface, so that a difference between the three
// is one of coordination. Only what the benchmark uses is there: one session, no
// events, and nobody leaves.
//
// # Concurrency
//
// State belongs to whoever holds its lock. Node may be used from many
// goroutines. Its own goroutine, which closes rounds where the Coordinator says
// so, is waited for by Close.
package reducer
