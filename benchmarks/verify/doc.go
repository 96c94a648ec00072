// Package verify makes the updates that benchmarks push so that they can be made
// again, and computes the models of rounds again from what the rounds are said to
// contain.
//
//	u, err := verify.Train(l, base, combiner, step)        // pushed as u.Body, under the names Name(combiner) and step
//	c, err := verify.New(l, combiners, 1, verify.Puller(client, session))
//	err = c.Take(ctx, rounds)                               // as a peer lists them, from the first on
//	c.Means()                                               // how many models are bit for bit the mean, and which are not
//
// An Update keeps the base and the load it was made from and may be read by many
// goroutines; a Checker belongs to one.
package verify
