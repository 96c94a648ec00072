// Package load makes the models that the benchmarks push, and measures in
// memory what the peers' work is compared with.
//
//	l, err := load.New(ctx, load.Options{Params: 25_000_000, Updates: 8, Seed: 1})
//	copied := l.Copy()                    // the updates' bytes, once through memory
//	summed, digest, err := l.Sum(ctx, 2)  // their mean, without files or network
//
// Nothing of it is needed again by the peers: they get l.Seed and l.Updates as
// bytes over the wire. A Load is immutable but for its buffer: measure one thing
// at a time.
package load
