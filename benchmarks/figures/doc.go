// Package figures has what the benchmarks say with numbers: quantiles, units, and
// limits that are kept or not. Its functions keep nothing.
package figures
