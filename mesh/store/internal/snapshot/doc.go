// Package snapshot encodes and decodes the snapshots of the log whose format package
// store describes. It reads and writes through io.ReaderAt and io.WriterAt, keeps one
// chunk in memory and knows no files.
//
//	w := snapshot.NewWriter(file, pos, salt, snapshot.MaxChunk)
//	_, err := w.Write(payload) // as often as need be
//	size, err := w.Finish()
//
//	r, err := snapshot.NewReader(file, size)
//	payload, err := io.ReadAll(r)
//
// A Writer and a Reader belong to one goroutine each.
package snapshot
