// Package kernel holds the inner loops of exact sums, over slices and without any
// knowledge of layouts, files or rounds.
//
// An accumulator is a 128-bit two's complement integer kept as two words, one in lo and
// one in hi at the same index. For a float element its least bit is worth
// 2^(-63+scale), for an integer element 1. Adding w·x means: decode x into sign,
// mantissa and exponent, multiply mantissa and |w| as integers, shift the product to the
// accumulator's least bit (dropping what is below it, toward zero), add or subtract
// with carry. There is no floating-point arithmetic anywhere in this package, so
// nothing can be fused, contracted or rounded twice, and every architecture has the same bits.
//
// Rules for all functions: the number of elements is len(lo); hi has the same
// length and byte slices hold that many whole little-endian elements, else the function panics
// as an index out of range does. Slices must not overlap. Functions keep no state
// and may run at the same time on different slices.
//
// The loops over float32 have no branch that depends on the values, but for results out of
// range and quotients half way between two results: zeros and tiny numbers cost what others cost.
package kernel
