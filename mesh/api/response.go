package api

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"sync/atomic"
	"time"
)

const (
	minProgress = 16 << 10  // bytes that earn an upload its full patience again
	writeChunk  = 256 << 10 // bytes handed to the kernel under one write deadline
	lingering   = 2 * time.Second
	lingerBytes = 1 << 30 // no more than that is read for nothing
	statusGone  = 499     // nginx's code for a client that went away; seen in logs and metrics only
)

// response is a ResponseWriter that moves the write deadline as bytes leave, keeps the account, and closes the connection when the
// body was not read to its end: what is left of 100 GB must neither be read nor taken for the next request.
type response struct {
	http.ResponseWriter
	rc     *http.ResponseController
	r      *http.Request
	idle   time.Duration
	body   *body // nil without one
	status int   // 0: the header is not out
	sent   int64
	mute   bool   // the answer is complete, what follows is dropped
	done   bool   // the handler ended in order
	token  string // name of the caller's, for the log
}

func newResponse(w http.ResponseWriter, r *http.Request, o ServerOptions) *response {
	resp := &response{ResponseWriter: w, rc: http.NewResponseController(w), r: r, idle: o.Timeouts.WriteIdle}
	if r.Body != nil && r.Body != http.NoBody {
		// MaxBytesReader tells net/http's own writer, hence w and not resp.
		resp.body = &body{
			src: http.MaxBytesReader(w, r.Body, o.MaxBody), rc: resp.rc,
			idle: o.Timeouts.BodyIdle, patience: o.Timeouts.BodyIdle, declared: r.ContentLength, limit: o.MaxBody,
		}
		r.Body = resp.body
	}
	return resp
}

// Unwrap is for http.ResponseController.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader sends the header, once.
func (w *response) WriteHeader(status int) {
	if w.status != 0 || w.mute {
		return
	}
	if status == http.StatusRequestedRangeNotSatisfiable && w.Header().Get("Content-Type") != "application/problem+json" {
		// http.ServeContent's answer is plain text; ours goes out instead.
		total := w.Header().Get("Content-Range")
		NewProblem(TypeInvalidRequest, status, "Range not satisfiable", "the range lies outside the model: "+total).
			With("parameter", "Range").write(w, w.r)
		w.mute = true
		return
	}
	w.status = status
	w.extend()
	if w.body != nil && !w.body.whole() {
		w.Header().Set("Connection", "close")
		_ = w.rc.SetReadDeadline(time.Now().Add(lingering))
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write sends a part of the answer.
func (w *response) Write(p []byte) (int, error) {
	if w.mute {
		return len(p), nil
	}
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	w.extend()
	n, err := w.ResponseWriter.Write(p)
	w.sent += int64(n)
	return n, err
}

// ReadFrom hands files to the kernel, a piece at a time.
func (w *response) ReadFrom(src io.Reader) (int64, error) {
	to, ok := w.ResponseWriter.(io.ReaderFrom)
	if !ok || w.mute {
		return io.Copy(struct{ io.Writer }{w}, src)
	}
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
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
		total, left, w.sent = total+n, left-n, w.sent+n
		if err != nil || n < want {
			return total, err
		}
	}
	return total, nil
}

// Flush sends what is buffered.
func (w *response) flush() error {
	w.extend()
	return w.rc.Flush()
}

// linger reads, for a moment, what a client still sends behind its answer: many clients look for the answer only once
// all is sent, and closing on them would reset the connection and lose the answer.
func (w *response) linger() {
	b := w.body
	if !w.done || b == nil || b.whole() || b.err != nil || b.declared-b.n > lingerBytes || w.flush() != nil {
		return
	}
	_ = w.rc.SetReadDeadline(time.Now().Add(lingering))
	_, _ = io.CopyN(io.Discard, b.src, lingerBytes)
}

func (w *response) extend() { _ = w.rc.SetWriteDeadline(time.Now().Add(w.idle)) }

func (w *response) received() int64 {
	if w.body == nil {
		return 0
	}
	return w.body.n
}

// bodyProblem is the fault of the request's body, nil when it arrived well or was not read.
func (w *response) bodyProblem() *Problem {
	if w.body == nil {
		return nil
	}
	return w.body.problem()
}

// body is a request's body under a rolling deadline. Time that the reader spends elsewhere does not count against the sender,
// and a trickle of single bytes does not keep a connection.
type body struct {
	src      io.ReadCloser
	rc       *http.ResponseController
	idle     time.Duration
	patience time.Duration // waiting that is left before minProgress more bytes must have come
	progress int64
	n        int64
	declared int64 // -1 when chunked
	limit    int64
	ended    bool
	err      error // what ended it, other than io.EOF

	interrupted atomic.Bool
}

// errInterrupted is the error of a body that somebody else goes on with.
var errInterrupted = errors.New("api: interrupted")

// Interrupt implements UploadBody.
func (b *body) Interrupt() {
	b.interrupted.Store(true)
	_ = b.rc.SetReadDeadline(time.Now())
}

// Read reads from the client.
func (b *body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	start, patience := time.Now(), b.patience
	_ = b.rc.SetReadDeadline(start.Add(patience))
	if b.interrupted.Load() { // looked at after the deadline was set, which Interrupt does in the other order
		b.err = errInterrupted
		return 0, b.err
	}
	n, err := b.src.Read(p)
	b.n += int64(n)
	b.progress += int64(n)
	waited := time.Since(start)
	b.patience = max(patience-waited, time.Millisecond)
	if b.progress >= minProgress {
		b.progress, b.patience = 0, b.idle
	}
	if err != nil {
		// net/http watches the connection from now on; a deadline left behind would end the request.
		_ = b.rc.SetReadDeadline(time.Time{})
		b.ended = errors.Is(err, io.EOF)
		switch {
		case b.ended:
		case b.interrupted.Load() && errors.Is(err, os.ErrDeadlineExceeded) && waited < patience:
			// Else it came too late: net/http ends the request when a read fails, and then the body is interrupted too.
			b.err = errInterrupted
		default:
			b.err = err
		}
	}
	return n, err
}

// Close leaves the rest to net/http.
func (b *body) Close() error { return b.src.Close() }

func (b *body) whole() bool { return b.ended || b.declared >= 0 && b.n >= b.declared }

func (b *body) problem() *Problem {
	var tooLarge *http.MaxBytesError
	switch {
	case b.err == nil:
		return nil
	case errors.Is(b.err, errInterrupted):
		return NewProblem(TypeUploadConflict, http.StatusConflict, "Not where the upload stands", "another connection has taken over, or the upload was ended")
	case errors.As(b.err, &tooLarge):
		return TooLarge(b.limit)
	case errors.Is(b.err, os.ErrDeadlineExceeded):
		return NewProblem(TypeBodyTimeout, http.StatusRequestTimeout, "Body timeout",
			fmt.Sprintf("the body stopped arriving after %d bytes", b.n))
	case b.declared >= 0:
		return NewProblem(TypeInvalidRequest, http.StatusBadRequest, "Incomplete body",
			fmt.Sprintf("the body ended after %d of %d bytes", b.n, b.declared))
	default:
		return NewProblem(TypeInvalidRequest, http.StatusBadRequest, "Incomplete body",
			fmt.Sprintf("the body broke off after %d bytes", b.n))
	}
}
