// Command scale measures fedmesh where there is much of something, with real
// processes on the loopback interface, and fails when anything is wrong:
//
//	go run ./scale --sessions 100     // 100 sessions at once on three peers
//	go run ./scale --combiners 500    // 500 combiners of one session at once
//	go run ./scale --peers 24         // 24 peers, of which 8 are killed
//
// Combiners are goroutines of the command with a client each. They pull a model,
// train for a fixed time in which they take no processor, push an update, and wait
// for the next model, as real ones do. Training stands for the hour that it takes
// elsewhere; what the mesh takes is counted from its end.
//
// Every run ends with a judgement: each session is closed, every peer's listing of
// its rounds is compared with the receipts, and every model is computed again.
//
// A claim has one owner, which starts the combiners and what watches the peers as
// goroutines and waits for them; what they find goes through the locks of the
// session and of the system.
package main
