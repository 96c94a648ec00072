// Package codec turns models as they arrive, safetensors or npz, into canonical files with a digest,
// and canonical files into what a client asks for.
//
//	f, _ := os.Create("model.safetensors")
//	layout, digest, err := codec.Ingest(body, f, codec.Options{Layout: expected})
//	...
//	err = codec.Emit(w, codec.NPZ, layout, f)
//
// [Ingest] streams. With a layout given, every tensor is written to its canonical place as it arrives, in
// whatever order, and memory stays at one buffer of 256 KiB and the headers however large the model. The
// digest is taken in passing as far as the tensors come in canonical order, and by reading back what does not.
// It is safe to give it input from anyone: what is wrong is refused with an error that wraps
// [model.ErrFormat], [model.ErrLayout] or [model.ErrTooLarge]. The destination then holds rubbish, and is the
// caller's to remove.
//
// A call belongs to one goroutine; calls share nothing.
package codec
