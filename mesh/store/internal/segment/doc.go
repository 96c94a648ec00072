// Package segment encodes and decodes the log segments whose format package
// store describes. It reads through io.ReaderAt and knows no files.
//
//	h := segment.Header{Number: 1, First: 1, Salt: salt}
//	file := h.AppendRecord(h.Encode(), segment.HeaderSize, payload)
//	r := segment.NewReader(bytes.NewReader(file), int64(len(file)), h)
//	rec, err := r.Next()
//
// A Reader belongs to one goroutine; the rest is stateless.
package segment
