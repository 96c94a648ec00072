// Command fedn runs real, unmodified FEDn over fedmesh, and then without.
//
// Two FEDn networks, each with a control loop and two combiners of its own, train one
// classifier of digits on MNIST: a `fedmesh fedn` gateway stands beside each combiner, and
// three fedmesh peers behind them. Each peer is killed once, in the middle of a round, and
// started again; then one network's control loop is killed for good. The command shows for
// each round the model's digest at each peer and each combiner, compares it with the
// exactly weighted mean of all clients' models, and tells how long pushes took whose first
// peer was dead. Then the same FEDn networks run without fedmesh.
//
//	go run . --fedmesh ../../bin/fedmesh
//
// With --overhead or --dtype it measures a gateway alone; see README.md.
//
// It needs Python 3.9 to 3.12 with its venv module; FEDn goes into a virtual environment
// in .venv. What runs in Python is in python/: FEDn's own Combiner, RoundHandler, Control
// and client, with storage in memory in the place of S3 and MongoDB, and nothing of FEDn
// changed.
package main
