// Package model describes models as bytes: typed tensors, the layout that places
// them in a file, and the digest that names the file.
//
// A model at rest is one canonical safetensors file:
//
//	8 bytes   length of the JSON that follows, little-endian
//	n bytes   JSON: name, dtype, shape and byte range of every tensor, no
//	          metadata, padded with spaces to a multiple of 8
//	          the tensors' bytes, little-endian, row-major, without gaps
//
// Tensors stand in the order of the reference implementation: by dtype (U64, I64,
// F64, F32, U32, I32, BF16, F16, U16, I16, I8, U8, BOOL), then by the bytes of the
// name. So equal tensors give equal bytes, whoever writes them, and Python's
// safetensors library (without metadata) writes the same file. The model's [Digest]
// is the BLAKE3-256 of the whole file.
//
// A [Layout] is everything about such a file but the values:
//
//	l, err := model.NewLayout([]model.Tensor{
//		{Name: "bias", DType: model.F32, Shape: []int64{10}},
//		{Name: "weight", DType: model.F32, Shape: []int64{10, 784}},
//	})
//	t := l.Tensors()[1]
//	at := int64(len(l.Header())) + t.Offset // of "weight" in the file
//
// Decoders of the formats that models arrive in are in the subpackages safetensors
// and npz; codec ties them together. All are pure: they read and write through
// io interfaces and start no goroutines.
//
// Everything here is a value or immutable and may be shared between goroutines.
package model
