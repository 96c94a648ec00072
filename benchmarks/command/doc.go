// Package command has what the benchmarks' commands share: progress on a terminal,
// the line they were called by, the program that they measure, and a folder for
// everything that is needed while they run. Its functions keep nothing.
package command
