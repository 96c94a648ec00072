// Command kill runs one workload over three systems whose processes are killed
// and started again, and looks afterwards for what was lost.
//
//	mesh    fedmesh peers
//	raft    reducers under Raft: one leads, the log of what is acknowledged is on a majority
//	single  one reducer that goes on from its disk, the shape of FEDn's
//
// Combiners pull the model, train (a cheap deterministic step), push with retries
// under one id at any process, and note every acknowledgement. They use the same
// client for all three, and the processes the same code to receive, check, sum
// and serve: see package reducer. What is counted in the end is taken from the
// systems' own listings, and every model is computed again from what its round
// is said to contain.
//
// Processes are real and die by SIGKILL. A seed decides when and, with --kill
// random, which; it cannot decide what the machine makes of it. With --partition
// nobody dies, but the network between them is cut in two and healed.
//
// The first rounds are calm, so that a run can be compared with itself. What a
// process was doing when it died is put together from the combiners, from its own
// events and from its files: see moments. What fedmesh is held to stands below the
// tables: see Limit.
//
// A trial is one system's run. Its watch, killer and combiners are goroutines
// that the trial waits for; what they find goes through the watch's and the
// trial's locks.
package main
