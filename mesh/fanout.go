package mesh

import (
	"context"
	"errors"
	"io"
	"time"
)

// fanout is a body that goes to several peers while it is read. A peer that does not keep up is given up, not waited for beyond the
// stall time.
type fanout struct {
	io.Reader
	stall time.Duration
	outs  []*outlet
}

type outlet struct {
	to   target
	pipe *io.PipeWriter // nil once given up
	err  chan error     // how the copy ended
}

var errStalled = errors.New("mesh: peer does not keep up")

// add starts sending to a peer.
func (f *fanout) add(p *Peer, ctx context.Context, t target, o offer) {
	r, w := io.Pipe()
	out := &outlet{to: t, pipe: w, err: make(chan error, 1)}
	f.outs = append(f.outs, out)
	go func() {
		err := p.sendCopy(ctx, t, o, r)
		_ = r.CloseWithError(errors.Join(err, io.ErrClosedPipe))
		out.err <- err
	}()
}

// Read implements io.Reader: what is read is written to all peers.
func (f *fanout) Read(b []byte) (int, error) {
	n, err := f.Reader.Read(b)
	if n > 0 {
		for _, out := range f.outs {
			if out.pipe != nil {
				out.write(b[:n], f.stall)
			}
		}
	}
	return n, err
}

func (o *outlet) write(b []byte, stall time.Duration) {
	pipe := o.pipe
	timer := time.AfterFunc(stall, func() { _ = pipe.CloseWithError(errStalled) })
	_, err := pipe.Write(b)
	timer.Stop()
	if err != nil {
		o.pipe = nil
	}
}

// finish ends the copies: with err nil they have the whole body, otherwise they are broken off, so that no peer takes a part for
// the whole.
func (f *fanout) finish(err error) {
	for _, out := range f.outs {
		if out.pipe != nil {
			_ = out.pipe.CloseWithError(err)
		}
	}
}

// wait returns who took the whole body, and why others did not.
func (f *fanout) wait() (copied []target, failed []error) {
	for _, out := range f.outs {
		if err := <-out.err; err != nil {
			failed = append(failed, err)
		} else {
			copied = append(copied, out.to)
		}
	}
	return copied, failed
}
