// Package process runs a mesh of real fedmesh processes for tests, benchmarks
// and the example, kills and restarts them, and judges what they made of it.
//
// A Cluster owns N processes of one binary on the loopback interface, named a,
// b, c and so on. Each has a folder and a log file under the cluster's folder,
// and keeps its ports and its data across restarts:
//
//	binary, err := process.Build(ctx, repoRoot, dir)
//	cluster, err := process.NewCluster(process.Options{Binary: binary, N: 3, Dir: dir})
//	defer cluster.Close()
//	err = cluster.Start(ctx)     // all answer /readyz
//	err = cluster.Together(ctx, "")  // and have met each other
//	err = cluster.Kill("b")      // SIGKILL
//	err = cluster.Restart(ctx, "b")
//
// Signals go only to processes that the cluster started itself and has not yet
// reaped, so a recycled process id is never hit. Close kills what is left and
// waits for it; on Linux the processes die with their parent even when it is
// killed itself.
//
// A Verdict compares what combiners were promised (their receipts) with what
// the rounds of every peer contain once the session is closed:
//
//	verdict, err := process.Check(ctx, process.CheckOptions{Session: "s", Peers: cluster.Peers(), Receipts: receipts})
//	verdict.WriteTable(os.Stdout)
//	err = verdict.Err() // nil when nothing was lost, doubled or disagreed on
//
// Clusters may be used from several goroutines. The package needs Unix signals.
package process
