// Package fedn lets FEDn's combiners aggregate over a mesh, without a change to
// FEDn. A FEDn combiner asks a "function service" beside it on every round; a
// Gateway is that service. One gateway stands beside each combiner, in the place
// of FEDn's own hooks process.
//
//	g, err := fedn.New(fedn.Config{Combiner: "c1", Session: "digits", Dir: dir, Open: api.DefaultSessionConfig()}, client)
//	if err != nil { ... }
//	s := grpc.NewServer(fedn.ServerOptions()...)
//	g.Register(s)
//	err = s.Serve(listener)
//	g.Close()
//
// # A round
//
// The combiner stores the global model, then each client's metadata and model,
// and asks for the aggregate. The gateway computes the clients' exact mean,
// weighted by their num_examples, pushes it to any peer as one update with the
// sum of these weights, waits for the round that counts it, and answers with
// that round's model. All combiners of a session get the same one, so what FEDn's
// controller makes of them, an unweighted mean, is that model again.
//
// A session that nobody opened yet is opened with the combiner's global model.
// Its layout is fixed then. FEDn turns integers into float64 when it averages, so
// models are taken whose tensors have the session's names and shapes; other
// dtypes are converted, rounded to nearest even. That holds for an update that
// waited on disk since before the first contact, too.
//
// # A network with a model of its own
//
// An update is a step from the model that it was trained from, and the mesh counts
// it as such. So a network that joins late, whose first global model is none of the
// session's, has that round's work refused: it is a step from somewhere else. Its
// combiner is answered with the session's model, the log says so, and from the next
// round on it trains that. Start FEDn from the session's model to lose nothing.
//
// A network that takes part already may come to have a model of its own while the
// mesh is away. What it trains from that counts: the gateway has kept the base, and
// pushes the same step, from the session's latest model.
//
// # When something is away
//
// FEDn has emptied its queue by the time it asks for the aggregate: an error
// would lose the clients' work. So there is none. While no peer can be reached,
// the update waits on disk and the gateway goes on trying for Config.Patience; then
// it answers with the clients' own mean, and pushes the update once that is
// possible, after a restart too, the oldest first. It counts then as a step from
// the older model that it was trained from. The same goes for a token that is refused,
// until somebody gives another.
//
// What the mesh will never take, for its tensors or values, for a session that is
// closed, a base that is gone or a key that another update has, is set aside: it
// goes from DIR/pending to DIR/refused, and those behind it go on. Both are bounded, by
// Config.MaxPending; the oldest go first. Client models that cannot be used are left
// out.
//
// # What the logs say
//
// The gateway's log says each fault once, and again after ten minutes, with what to do.
// FEDn's combiner logs the answers to models that it stores ("Store model response"):
// there is a line in each round while something is wrong, and one for each
// client that is left out. For a global model that cannot be used it logs a warning and
// aggregates by itself.
//
// Memory depends neither on the models nor on their number: they are files in
// Config.Dir, summed as they come, block by block.
//
// # Concurrency
//
// All methods may be called from any goroutine. FEDn asks one thing at a time, and
// so is it answered.
package fedn
