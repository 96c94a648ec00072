package api

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/fedmesh/fedmesh/model"
)

// ErrNotModified is Pull's answer when there is nothing newer than PullOptions.After.
var ErrNotModified = errors.New("api: nothing newer")

// ErrDigest is Pull's answer when the bytes received are not the model that was announced. What the writer got is of no use.
var ErrDigest = errors.New("api: digest mismatch")

// Format is a model's file format on the wire.
type Format string

// The formats.
const (
	Safetensors Format = "safetensors"
	NPZ         Format = "npz"
)

// Source opens a body for one attempt: the bytes from the start and their number, -1 when unknown. It is called again
// for each peer that is tried, and must then open the same bytes. Where an upload is gone on with in the middle, a body that is an
// io.Seeker is sought there, and another read up to there.
type Source func() (io.ReadCloser, int64, error)

// ClientOptions tunes a client. The zero value is good.
type ClientOptions struct {
	Shuffle         bool                                                              // try the peers in random order, else from the first on
	Rand            rand.Source                                                       // for Shuffle and backoff; nil: seeded by the system. The client guards it
	ConnectTimeout  time.Duration                                                     // default 2 s
	ResponseTimeout time.Duration                                                     // from the end of the request to the answer's header; default 30 s
	IdleTimeout     time.Duration                                                     // without a byte moved while a body is under way; default 30 s
	BadFor          time.Duration                                                     // how long a peer that failed is tried after the others; default 5 s
	MaxBackoff      time.Duration                                                     // between two passes through the peers, of itself; default 3 s. When given, also at most how long a Retry-After is obeyed, else 30 s
	ResumeFrom      int64                                                             // bytes from which on an update goes by resumable upload; default 16 MiB
	Passes          int                                                               // passes through all peers before giving up; 0: until the context ends
	Token           string                                                            // shown to every peer, in a header; empty: none
	UserAgent       string                                                            // default "fedmesh"
	DialContext     func(ctx context.Context, network, addr string) (net.Conn, error) // nil: real sockets
	TLS             *tls.Config                                                       // for https; when given, peers without a scheme are https. Nil: the system's authorities, no certificate
	Logger          *zerolog.Logger                                                   // nil: silent

	obey time.Duration // the longest Retry-After
}

func (o ClientOptions) withDefaults() ClientOptions {
	o.ConnectTimeout = cmp.Or(o.ConnectTimeout, 2*time.Second)
	o.ResponseTimeout = cmp.Or(o.ResponseTimeout, 30*time.Second)
	o.IdleTimeout = cmp.Or(o.IdleTimeout, 30*time.Second)
	o.BadFor = cmp.Or(o.BadFor, 5*time.Second)
	o.obey = cmp.Or(o.MaxBackoff, maxRetryAfter)
	o.MaxBackoff = cmp.Or(o.MaxBackoff, 3*time.Second)
	o.ResumeFrom = cmp.Or(o.ResumeFrom, 16<<20)
	o.UserAgent = cmp.Or(o.UserAgent, "fedmesh")
	if o.Rand == nil {
		o.Rand = rand.NewPCG(rand.Uint64(), rand.Uint64())
	}
	if o.Logger == nil {
		nop := zerolog.Nop()
		o.Logger = &nop
	}
	return o
}

// PushOptions describes an update.
type PushOptions struct {
	Combiner string
	ID       string             // empty: made of the base's round and digest when there is a base, else by the peer of the body's digest
	Weight   int64              // 1..MaxWeight
	Base     string             // digest, hex; "latest": asked for, once; empty: the latest of whichever peer accepts
	Metrics  map[string]float64 // finite
	Request  string             // id for the logs of all peers that have to do with it; empty: made
}

// PullOptions says which model and how. The zero value is the latest, as safetensors.
type PullOptions struct {
	Format Format        // default Safetensors
	Round  *uint64       // the model this round made
	Digest string        // hex; at most one of Round and Digest
	After  string        // digest or round: only a model newer than this; neither with Round nor Digest
	Wait   time.Duration // how long to wait for one newer than After
	Expect func(n int64) // told, as a transfer begins or goes on, of how many bytes the file will be, -1 when the peer does not say; nil: nobody wants to know
}

// ModelInfo is what was pulled.
type ModelInfo struct {
	Digest model.Digest
	Round  uint64 // the round that made it; 0 is the seed
	Format Format
	Bytes  int64  // of the file in that format; from Head -1 when the peer does not say
	Peer   string // URL of the peer that delivered it, or its end
}

// Client talks to a mesh through any of its peers.
//
// A call tries one peer after the other. A connection that fails or stalls, 5xx, 408 and 429 move it on, and after a pass
// through all peers it waits a little and starts again, until the context ends or Passes are used up. Other 4xx are
// answers. Sessions, models and rounds that one peer does not know (404) are asked of the others, who may have heard
// earlier; when none has, 404 is the answer.
//
// Errors wrap *Problem when a peer gave one.
type Client struct {
	*wires
	peers []*peerState
}

// wires are shared by a client and those made by Peer.
type wires struct {
	http *http.Client
	opts ClientOptions

	mu   sync.Mutex
	rand *rand.Rand            // guarded by mu
	all  map[string]*peerState // guarded by mu; what is remembered of each URL
}

type peerState struct {
	url string
	bad time.Time // guarded by wires.mu; until then tried after the others
}

// NewClient makes a client of peers given as URLs or as host:port (http, or https with ClientOptions.TLS).
func NewClient(peers []string, o ClientOptions) (*Client, error) {
	o = o.withDefaults()
	dial := o.DialContext
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, o.ConnectTimeout)
			defer cancel()
			conn, err := dial(ctx, network, addr)
			if b, ok := conn.(interface{ SetWriteBuffer(bytes int) error }); ok {
				_ = b.SetWriteBuffer(socketBuffer) // what is sent and not received must be sent again when a peer dies
			}
			return conn, err
		},
		TLSClientConfig:       o.TLS.Clone(),
		TLSHandshakeTimeout:   o.ConnectTimeout,
		ExpectContinueTimeout: time.Second,
		IdleConnTimeout:       time.Minute,
		MaxIdleConnsPerHost:   8,
		DisableCompression:    true,
		ReadBufferSize:        64 << 10,
		WriteBufferSize:       64 << 10,
	}
	if o.DialContext == nil {
		transport.Proxy = http.ProxyFromEnvironment
	}
	c := &Client{wires: &wires{
		http: &http.Client{
			Transport:     transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		opts: o,
		rand: rand.New(o.Rand),
		all:  map[string]*peerState{},
	}}
	var faults []error
	for _, p := range peers {
		u, err := c.url(p)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		if state := c.state(u); !slices.Contains(c.peers, state) {
			c.peers = append(c.peers, state)
		}
	}
	if len(peers) == 0 {
		faults = append(faults, errors.New("api: no peers given; give at least one as host:port or URL"))
	}
	return c, errors.Join(faults...)
}

// url makes "http://host:port" of what people write.
func (w *wires) url(s string) (string, error) {
	raw := strings.TrimSpace(s)
	if !strings.Contains(raw, "://") {
		scheme := "http://"
		if w.opts.TLS != nil {
			scheme = "https://"
		}
		raw = scheme + raw
	}
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" ||
		strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return "", fmt.Errorf("api: the peer %q is neither host:port nor http://host:port or https://host:port", clip(s))
	}
	return u.Scheme + "://" + u.Host, nil
}

func (w *wires) state(u string) *peerState {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.all[u] == nil {
		w.all[u] = &peerState{url: u}
	}
	return w.all[u]
}

// Close drops idle connections. Calls under way are not disturbed.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Peers lists the peers' URLs, in the order given.
func (c *Client) Peers() []string {
	urls := make([]string, len(c.peers))
	for i, p := range c.peers {
		urls[i] = p.url
	}
	return urls
}

// Peer is a client of that one peer, on the same connections.
func (c *Client) Peer(peer string) (*Client, error) {
	u, err := c.url(peer)
	if err != nil {
		return nil, err
	}
	return &Client{wires: c.wires, peers: []*peerState{c.state(u)}}, nil
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
