// Package aggregate computes a round's model from its updates, exactly.
//
// A weighted sum of models is kept in 128-bit fixed-point integers, wide enough that adding never
// rounds. So a sum over a set of updates has one value, whatever the order, the grouping or the machine:
// any peer can compute any part of it for any other, parts over disjoint sets merge, and a part
// can be taken out again. Rounding happens once, in the division by the total weight at the end.
//
// # Use
//
//	scales, err := aggregate.ScanScales(layout, seed)      // once a session
//	spec, err := aggregate.NewSpec(layout, scales)
//	err = spec.Check(tensor, elem, bytes)                  // as a pushed model arrives
//	strategy, err := aggregate.Lookup("fedavg", nil)
//	plan, err := aggregate.PlanRound(ctx, strategy, aggregate.Round{Spec: spec, Prev: prev, Updates: updates, Base: open})
//	out.Write(layout.Header())
//	for from, to := range spec.Split(1) {
//		var ws aggregate.Workspace
//		events, err = plan.Range(ctx, &ws, from, to, nil, aggregate.Output{Model: out})
//	}
//
// A peer that holds some of the updates gives their exact sum over a range with [Spec.Partial], of the
// terms that [Summing.Terms] returns for them; another hands it to [Plan.Range] among its sums and leaves
// the sources of those updates nil.
//
// # Ranges and concurrency
//
// Parameters are numbered in canonical order, from 0 to [model.Layout.Elements]. A range [from, to) is computed block by
// block, in memory that depends neither on the model nor on the number of updates, and reads every source in ascending
// order. The result is the bytes of [Spec.Section], so the results of adjacent ranges are adjacent in the file. This package
// starts no goroutines: run several ranges of one plan at the same time, each with its own
// [Workspace]. A [Spec], a [Strategy] and a [Plan] are immutable and may be shared.
//
// # The format
//
// Each tensor has a scale, a power of two pinned for the session (see [ScanScales]), 1 unless the seed holds large
// values. A float element x must satisfy |x| < 2^24·scale; NaN and Inf are refused. The least bit of its sums is
// 2^-63·scale. The magnitude of weight·x is truncated to it, toward zero, once per update; nothing is lost
//
//   - of a float32 or bfloat16 that is 0 or at least 2^-40·scale,
//   - of a float64 that is 0 or at least 2^-11·scale,
//   - of any float16.
//
// Integer and bool elements have least bit 1 and lose nothing. Weights are integers and |w| < 2^38. (A weight with ten fractional
// bits is the integer 1024 times as large.)
//
// Why sums fit: the weights of a round add up to less than 2^38, so |Σ w·x| < 2^38 · 2^24 = 2^62, in units of the
// scale. The general formula, which counts stale updates as steps from their own
// base, adds two sums over some of the same weights, of the previous model and of the
// bases: 3·2^62 at most, that is 3·2^125 least bits, less than the 2^127 that a signed 128-bit integer has. Integers are at
// most 64 bits, their sums at most 3·2^102. Sums over updates alone stay within ±2^125, and a partial sum beyond it
// is refused as damaged.
//
// # Encoded sums
//
// On the wire a partial sum is, for each block of 32,768 elements or the part of it within the range, in canonical order: a header of two bytes for
// each chunk of 1,024 elements, the last of which may have fewer, counted from the first element of the block that is in the range; then
// the chunks' elements. Which updates are in the sum travels beside it.
//
// The first byte of the header is the shift, the number of zero bits that all the chunk's sums end in, at most 125. The second is
// the width, at most 16. Each element is its 128-bit sum, shifted right by the shift, as a two's complement integer of so many bytes,
// little-endian: the fewest that hold all the chunk's elements. A chunk of zeros has shift and width 0, and nothing
// else. So a sum has one encoding, and any other is refused. Sums of float32 models take 5 to 7 bytes an
// element where the weights are numbers of examples, 10 where they are as large as they may be: from two or three updates on, less than the
// updates.
//
// As blocks do not depend on each other and tell their size, a part of an encoded sum over all elements can be cut out: [Spec.CutPartial].
//
// # Results
//
// Results are rounded to the nearest value of the dtype, half to even: floats directly from the quotient, whatever
// their width. A zero is +0. A result that the tensor's range or dtype does not hold becomes the nearest one that it does, so that
// the next round can be trained from it, and is counted in [Events].
//
// # Strategies
//
// A [Strategy] plans a [Round] and its [Plan] writes ranges of the new model; [Strategies] lists them, [Lookup] makes one with its
// parameters. Whatever a result depends on is a field of Round: a strategy has no state, clock or randomness of its own. Floating-point
// arithmetic is addition, multiplication, division and square root, with each product converted before it is added to,
// so that no compiler fuses them; sums of squares are added up in a fixed order. So all results have the same bits everywhere.
//
// Two kinds there are. One needs its updates only through a weighted sum, a [Summing] strategy: peers may exchange sums in place of
// updates. With staleness the weights depend on the round, with clipping the sources are steps, scaled as they are read; such a
// strategy is not plain, and who makes sums for others must know the round's number and the updates' bases. The server
// optimizers among them are [Stateful]: they read the state that the round before left, and each range writes its part of the
// next. With noise they need the mesh's secret, and are [Private]; an [Accountant] adds up what published models cost.
//
// The others compare the updates themselves, one for each combiner, element by element or by their distances. Plan reads them
// whole where distances are needed, in pieces; ranges are as independent as for sums.
//
// A session is checked once, by [Require]; a round in which a strategy has no model, for too few updates, keeps the previous one on all peers:
// [PlanRound].
package aggregate
