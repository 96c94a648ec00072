// Command throughput measures how long a mesh takes for a round, as a ratio to
// what the machine could do at best.
//
// Combiners push their models at once to real fedmesh processes on the loopback
// interface, spread over them. The clock runs from the first push until every
// peer serves the new model. Before each run the same bytes are copied in
// memory, and their mean is computed without files or network: the times are
// compared with these, and every peer's model with that mean.
//
//	go run ./throughput --fedmesh ../bin/fedmesh
//	go run ./throughput --peers 1 --repeat 1 --max-memory 400   # fails above 400 MB
//
// The table goes to standard output, progress to standard error on a terminal;
// both table and picture into the folder --out.
package main
