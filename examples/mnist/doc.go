// Command mnist trains a network on MNIST over a mesh of real peers, one of
// which it kills on the way. See README.md.
//
// It starts the peers as processes; the combiners, each with some clients, are
// goroutines of its own. A run is one training from the first model to the
// verdict; a comparison is several on one mesh:
//
//	config.go    what to run
//	trial.go     which strategies, with which parameters, attacked or not
//	mesh.go      the peers
//	run.go       one run
//	compare.go   several strategies
//	picture.go   their accuracy over rounds, as SVG
//	attack.go    what an attacker makes of an update
//	combiner.go  pull, train the clients, push their mean
//	routes.go    a peer to push to, another to pull from
//	stage.go     who is killed when, and who has to wait for it
//	watch.go     the accuracy and each peer's digest, round by round
//	live.go      lines on a terminal or a pipe
//	report.go    the result and what is wrong with it
//	wire.go      a model as safetensors
package main
