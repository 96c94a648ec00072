// Package npz reads and writes numpy's npz archives: zip files of one .npy member per array,
// as numpy.savez (stored) and numpy.savez_compressed (deflated) make them.
//
//	err := npz.Decode(r, model.Limits{Bytes: 1 << 30}, sink)
//
// Reading streams by the local headers and is strict. An array's name is its member's without
// ".npy"; see [model.CheckName] for the names that are refused. The npy header must be the
// dictionary numpy writes, of a boolean, integer or floating-point dtype; big-endian elements are swapped.
// Object, structured, complex and text arrays are refused, and so are column-major ones with more
// than one dimension that matters, because they cannot be transposed in passing: save
// numpy.ascontiguousarray(a). Sizes, checksums, data descriptors and the central directory must all agree
// with what came, and nothing may follow. No more is ever inflated than the npy header declares
// and the limits allow. Memory is some 400 KiB and the names.
//
// bfloat16 arrays (package ml_dtypes) lose their dtype in numpy's format: the file says "<V2", two bytes of
// anything. They are refused unless the sink knows better, see [BF16Sink]. Writing gives "<V2" as numpy does.
//
// Writing stores without compression, deflating float weights gains little at a fiftieth of
// the speed, and gives byte for byte what numpy.savez writes for the same arrays in the same order.
//
// The functions share nothing and may be called from any goroutine.
package npz
