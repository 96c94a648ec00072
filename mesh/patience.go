package mesh

import (
	"io"
	"math"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// writeChunk is how many bytes of a file are handed to the kernel under one deadline.
const writeChunk = 256 << 10

// patientWriter is an answer that breaks off when nothing of it is taken for a while. Whoever wants it gives up earlier.
type patientWriter struct {
	http.ResponseWriter
	rc    *http.ResponseController
	after time.Duration
	count prometheus.Counter
}

// Unwrap is for http.ResponseController.
func (w *patientWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *patientWriter) extend() { _ = w.rc.SetWriteDeadline(time.Now().Add(w.after)) }

func (w *patientWriter) Write(p []byte) (int, error) {
	w.extend()
	n, err := w.ResponseWriter.Write(p)
	add(w.count, n)
	return n, err
}

// ReadFrom hands files to the kernel, a piece at a time.
func (w *patientWriter) ReadFrom(src io.Reader) (int64, error) {
	to, ok := w.ResponseWriter.(io.ReaderFrom)
	if !ok {
		return io.Copy(struct{ io.Writer }{w}, src)
	}
	// net looks through one LimitedReader only, so the caller's is taken apart.
	left := int64(math.MaxInt64)
	if lr, ok := src.(*io.LimitedReader); ok {
		src, left = lr.R, lr.N
	}
	var total int64
	for left > 0 {
		w.extend()
		want := min(left, writeChunk)
		n, err := to.ReadFrom(&io.LimitedReader{R: src, N: want})
		total, left = total+n, left-n
		add(w.count, int(n))
		if err != nil || n < want {
			return total, err
		}
	}
	return total, nil
}
