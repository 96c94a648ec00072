// Package modeltest helps to test decoders: a file in memory, a sink that keeps what it gets, and
// models with known content.
//
//	var sink modeltest.Collect
//	err := npz.Decode(r, model.Limits{}, &sink)
//	layout, file, err := sink.Canonical()
//
// Its types belong to one goroutine each.
package modeltest
