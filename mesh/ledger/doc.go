// Package ledger is what the peers of a mesh agree on, and how: without a leader, a vote or a clock.
//
// Each peer appends facts to a log of its own ("I hold this update", "my part of round 7 is everything up to here") and
// copies the logs of the others. A fact never becomes false, so merging two ledgers is taking the longer copy of each log,
// which is idempotent, commutative and associative. Everything else, above all what belongs to which round of a session, is
// derived from the set of facts by one deterministic function. Two peers that hold the same facts agree, however and in whatever
// order they got them.
//
// # Words
//
//   - entry: one fact in one log, chained to the one before by digest. FORMAT.md is the byte format.
//   - log: the entries of one peer. It is named by a random LogID made once per data directory.
//   - vector, cut: how many entries of each log. A vector says what a peer holds, a cut what a round may count.
//   - session: one training run: immutable configuration, a seed model, founders.
//   - update: what one combiner pushed: a model, a weight, the model it was trained from and that one's round. Its key is
//     (session, combiner, id).
//   - holder: a peer that has the bytes of an update and of its base, and says so.
//   - seal: a peer's word "my part of round r is everything up to this cut". A skip stands for seals that a peer did not make.
//   - content, inputs: the updates that a round counts, and the digest of everything that its model depends on.
//   - final: nothing that can still arrive changes the round.
//   - base: the last round of a session of which only what it counted and gave is kept. A ledger in that form is a snapshot.
//
// RULES.md states how rounds are derived, what a peer does, and why.
//
// # Types
//
// Ledger merges entries and derives. Snapshot is its state in place of entries that matter no longer. Session and Round are its reading side. Replica adds what one peer decides on its own: when
// it seals, when it waits no longer, what it gives up. It is driven by a shell that has the clock, the disk and the network;
// its comment says how.
//
// # Concurrency
//
// Nothing here locks, starts a goroutine, reads a clock, draws a random number or does I/O. A Ledger, with its Sessions and
// Replicas, belongs to one goroutine at a time. Entries are immutable and may be shared. Slices and maps that are handed out
// are read only and, unless their method says otherwise, good until the ledger changes.
package ledger
