// Package safetensors reads and writes the safetensors format, version as of the
// reference implementation 0.8: an 8-byte little-endian length, that many bytes of JSON, then the
// tensors' bytes.
//
//	{"weight":{"dtype":"F32","shape":[10,784],"data_offsets":[0,31360]}, ...}
//
// Reading streams and is strict. Tensors may stand in any order and "__metadata__" is checked and
// dropped, but the header must begin with "{", may hold no key twice and none that the format does
// not know, and the ranges must cover the data section exactly, without holes or overlap. What
// reaches beyond the last tensor is refused. Memory is that of the header, which is read as it
// arrives and not allocated by its declared length, and one buffer of 256 KiB.
//
//	err := safetensors.Decode(r, model.Limits{Bytes: 1 << 30}, sink)
//
// Writing gives the canonical file of package model.
//
// A [Reader] belongs to one goroutine; the functions share nothing.
package safetensors
