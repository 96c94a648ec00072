// Command mnist trains a network on MNIST over a mesh of real peers, one of
// which it kills on the way. See README.md.
//
// It starts the peers as processes; the combiners, each with some clients, are
// goroutines of its own. A run is one training from the first model to the
// verdict:
//
//	config.go    what to run
//	run.go       one run
//	combiner.go  pull, train the clients, push their mean
//	routes.go    a peer to push to, another to pull from
//	stage.go     who is killed when, and who has to wait for it
//	watch.go     the accuracy and each peer's digest, round by round
//	live.go      lines on a terminal or a pipe
//	report.go    the result and what is wrong with it
//	wire.go      a model as safetensors
package main
