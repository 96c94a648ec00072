// Command overhead measures what resilience costs: the same pushes to one fedmesh
// peer, whose updates have one copy, and to three, whose updates have two. It
// compares the processor time of all peers together, and the bytes that come to
// them over the wire, per update, as ratios, beside what cannot be saved:
//
//	copies × the update, and one model to each peer for each round
//
// A lone peer makes the model itself, so to it comes the update alone.
//
// Processor time is taken on the loopback interface. Bytes are what the peers'
// network interfaces have received, counted by the kernel with all headers; for
// that each peer has a network namespace of its own, which needs Linux, root and
// /dev/net/tun. Without these, they are reckoned: what was pushed, and what the
// peers wrote to sockets, of which the answers to combiners are next to nothing.
//
// Combiners push and do not pull: each peer would answer them with the same bytes
// however many there are.
//
// A run has one owner, which starts the combiners of a round as goroutines and
// waits for them.
package main
