// Package sim plays whole meshes from a seed: real ledger.Replicas over disks that lose what was not synced and a network that
// loses, delays, duplicates and reorders, while peers are killed, stalled, cut off, join, leave and die for good, operators
// forget the dead and, by mistake, the living, and combiners lose acknowledgements, try elsewhere, and push other bytes under a
// key they used. There is one event queue, one clock and one random source, so a seed
// replays to the last event.
//
// After the world has healed it holds every run against the laws (laws.go): all peers derive the same rounds; every
// acknowledged update is in exactly one of them, and in none that is not newer than its base; a round once final anywhere never
// changed; nobody is stuck; no two peers computed different models from the same inputs.
//
//	make sim SEED=1 N=2000
//	go test ./mesh/meshtest/sim -run TestSimulation -sim.seed 42 -sim.n 1 -sim.trace -v
//
// testdata/regressions.txt holds seeds that once broke a law.
package sim
