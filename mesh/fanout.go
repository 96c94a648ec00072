package mesh

import (
	"errors"
	"io"
	"time"

	"github.com/fedmesh/fedmesh/model"
)

// keepUp is how long a peer that an update is sent on to may take no byte.
const keepUp = time.Second

// fanout is a body that goes to several peers while it is read. A peer that does not keep up is given up.
type fanout struct {
	io.Reader
	start func(*fanout) // adds the peers, once there is something for them
	outs  []*outlet
}

type outlet struct {
	pipe *io.PipeWriter // nil once given up
}

var errStalled = errors.New("mesh: peer does not keep up")

// outlet adds a peer: send is to be called with it and returns how sending the body to it ended.
func (f *fanout) outlet(send func(t target, body io.Reader) (model.Digest, error)) func(target) (model.Digest, error) {
	r, w := io.Pipe()
	f.outs = append(f.outs, &outlet{pipe: w})
	return func(t target) (model.Digest, error) {
		held, err := send(t, r)
		_ = r.CloseWithError(io.ErrClosedPipe) // what is still written to it fails
		return held, err
	}
}

// Read implements io.Reader: what is read is written to all peers.
func (f *fanout) Read(b []byte) (int, error) {
	n, err := f.Reader.Read(b)
	if n > 0 {
		if f.start != nil {
			f.start(f)
			f.start = nil
		}
		for _, out := range f.outs {
			out.write(b[:n])
		}
	}
	return n, err
}

func (o *outlet) write(b []byte) {
	if o.pipe == nil {
		return
	}
	pipe := o.pipe
	timer := time.AfterFunc(keepUp, func() { _ = pipe.CloseWithError(errStalled) })
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
