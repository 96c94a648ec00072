// Command raftreducer is a reducer of several processes under Raft, to compare
// fedmesh with: hashicorp/raft with its default settings (heartbeat and election
// timeout 1 s, leader lease 500 ms, commit timeout 50 ms, a snapshot when 8,192
// entries are behind the last), and its log in hashicorp/raft-boltdb, set up as in
// Consul. (hashicorp/raft-wal 0.4.0 cannot open its log again when a process is
// killed after the log's end was taken back: its issue 31.)
//
// A combiner pushes to any process. That one stores the model, brings it to as
// many others as make a majority, the leader first, and then has the leader put
// an entry of a few hundred bytes into the log; the receipt is given when a
// majority has that on disk. Models do not go through the log: they would be
// written twice on every disk, and go from the leader to all others. The leader
// computes the mean when the target is reached, brings it to the others, waits
// for a majority, and puts the round's end into the log. After its death the next
// leader has all entries, and models from whoever has them.
//
// As in fedmesh with --fsync auto, what a majority holds of models waits for no
// disk; the log is synced as raft-boltdb does.
//
// It takes the flags of `fedmesh node`, and is told once, over raftctl.Path, who
// the servers are.
//
// The coordinator may be used from many goroutines. Those that it starts, for
// models on their way and for the leader's part, are waited for by its close.
package main
