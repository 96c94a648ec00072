package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"time"

	"github.com/rs/zerolog"

	"github.com/fedmesh/fedmesh/model"
)

// ErrNotModified is Pull's answer when there is nothing newer than PullOptions.After.
var ErrNotModified = errors.New("api: nothing newer")

// ErrDigest is Pull's answer when the bytes received are not the model that was announced.
var ErrDigest = errors.New("api: digest mismatch")

// Format is a model's file format on the wire.
type Format string

// The formats.
const (
	Safetensors Format = "safetensors"
	NPZ         Format = "npz"
)

// Source opens a body for one attempt: the bytes from the start and their number, -1 when unknown. A client that moves on
// to another peer calls it again.
type Source func() (io.ReadCloser, int64, error)

// ClientOptions tunes a client. The zero value is good.
type ClientOptions struct {
	Shuffle         bool          // try the peers in random order
	Rand            rand.Source   // for Shuffle and backoff; nil: seeded by the system. The client guards it
	ConnectTimeout  time.Duration // default 2 s
	ResponseTimeout time.Duration // from the end of the request to the answer's header; default 30 s
	IdleTimeout     time.Duration // without a byte moved while a body is; default 30 s
	BadFor          time.Duration // how long a peer that failed is tried last; default 5 s
	MaxBackoff      time.Duration // between two rounds through the peers; default 3 s
	Passes          int           // rounds through all peers before giving up; 0: until the context ends
	UserAgent       string
	DialContext     func(ctx context.Context, network, addr string) (net.Conn, error) // nil: real sockets
	Logger          *zerolog.Logger                                                   // nil: silent
}

// PushOptions describes an update.
type PushOptions struct {
	Combiner string
	ID       string // empty: made of the base's round and digest when the base is known
	Weight   int64
	Base     string // digest, hex; "latest": asked for once; empty: the peer's latest, at each peer its own
	Metrics  map[string]float64
}

// PullOptions says which model and how.
type PullOptions struct {
	Format Format // default Safetensors
	Round  *uint64
	Digest string        // hex; at most one of Round and Digest
	After  string        // digest or round: only a model newer than this
	Wait   time.Duration // how long to wait for one; with After
}

// ModelInfo is what was pulled.
type ModelInfo struct {
	Digest model.Digest
	Round  uint64
	Format Format
	Bytes  int64  // written to the caller's writer
	Peer   string // URL of the peer that delivered the end of it
}

// File is a Source that reads a file.
func File(path string) Source {
	return func() (io.ReadCloser, int64, error) {
		f, err := os.Open(path)
		if err != nil {
			return nil, 0, fmt.Errorf("api: %w", err)
		}
		st, err := f.Stat()
		if err != nil {
			return nil, 0, errors.Join(fmt.Errorf("api: %w", err), f.Close())
		}
		if !st.Mode().IsRegular() {
			return f, -1, nil
		}
		return f, st.Size(), nil
	}
}

// Bytes is a Source that reads b, which must not change meanwhile.
func Bytes(b []byte) Source {
	return func() (io.ReadCloser, int64, error) {
		return io.NopCloser(bytes.NewReader(b)), int64(len(b)), nil
	}
}
