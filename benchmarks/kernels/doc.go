// Command kernels measures the loops of the exact sum beside copying memory, in the assembly and in pure Go, and says which of the
// figures that are promised hold:
//
//	cd benchmarks && go run ./kernels
//
// It compiles the benchmarks of aggregate/internal/kernel twice and runs them in turn, so that whatever slows the machine down slows
// all alike. Figures are nanoseconds per input parameter divided by those of the copy in the same repeat. It writes a
// table, a picture, and the benchmarks' own output, which benchstat reads.
package main
