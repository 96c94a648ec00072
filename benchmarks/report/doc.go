// Package report turns what a benchmark measured into text and pictures.
//
// A Report holds every run as it was measured. What is shown is derived from
// them: the median of the repeats with the smallest and the largest, and ratios
// that are taken within a repeat before the median is, because both halves of a
// ratio saw the same machine then.
//
//	err := r.WriteText(os.Stdout)
//	err = r.SavePicture("throughput.png", "throughput.svg")
package report
