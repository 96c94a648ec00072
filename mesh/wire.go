package mesh

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/ledger"
)

// The peer plane: what peers ask of each other over HTTP/1.1, below /v1/peer/ on their API ports. Tensors travel only here.
//
//	POST entries                       anti-entropy of the ledger (exchange.go)
//	GET  snapshot                      the ledger's state, for who lacks entries that are compacted (compaction.go)
//	PUT  updates/{session}/{combiner}  hold a copy of an update (hold.go)
//	DELETE uploads/{upload}            an update that was to be held will not come (uploads.go)
//	POST sessions/{session}            hold a session's seed, and ?model=DIGEST
//	GET  blobs/{digest}                a model file, with ranges
//	POST sums/{session}                the exact sum over an explicit label and range (sums.go)
//	GET, POST keys                     the gossip's keys, by fingerprint, and orders to change them, sealed (keys.go)
//
// Every request names its mesh and protocol; one of another is refused. It names the calling peer too, which lives, whatever gossip says.
const (
	headerMesh   = "Fedmesh-Mesh"
	headerPeer   = "Fedmesh-Peer" // log of the peer that calls, a space, and its host:port
	headerUpdate = "Fedmesh-Update"
)

// sendBuffer bounds what a connection has sent and the other side has not received. When this machine dies it is lost, and who uploads has to
// send it again. The kernel takes twice as much.
const sendBuffer = 512 << 10

func newHTTPClient(cfg Config) *http.Client {
	dial := cfg.Dial
	if dial == nil {
		dial = (&net.Dialer{Timeout: 2 * time.Second}).DialContext
	}
	unbounded := dial
	dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := unbounded(ctx, network, addr)
		if b, ok := conn.(interface{ SetWriteBuffer(bytes int) error }); ok {
			_ = b.SetWriteBuffer(sendBuffer)
		}
		return conn, err
	}
	return &http.Client{Transport: securely(cfg.TLS, &http.Transport{
		DialContext:           dial,
		DisableCompression:    true, // weights do not shrink
		MaxIdleConnsPerHost:   16,
		IdleConnTimeout:       time.Minute,
		ExpectContinueTimeout: time.Second,
		ReadBufferSize:        64 << 10,
		WriteBufferSize:       64 << 10,
	})}
}

// PeerHandler serves the peer plane.
func (p *Peer) PeerHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/peer/entries", p.serveEntries)
	mux.HandleFunc("GET /v1/peer/snapshot", p.serveSnapshot)
	mux.HandleFunc("PUT /v1/peer/updates/{session}/{combiner}", p.serveHold)
	mux.HandleFunc("DELETE /v1/peer/uploads/{upload}", p.serveDisown)
	mux.HandleFunc("POST /v1/peer/sessions/{session}", p.serveSeed)
	mux.HandleFunc("GET /v1/peer/blobs/{digest}", p.serveBlob)
	mux.HandleFunc("POST /v1/peer/sums/{session}", p.serveSums)
	mux.HandleFunc("GET /v1/peer/keys", p.serveKeys)
	mux.HandleFunc("POST /v1/peer/keys", p.serveKeyOrder)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p.cfg.TLS != nil {
			if err := p.cfg.TLS.VerifyPeer(r); err != nil {
				refuse(w, http.StatusForbidden, err)
				return
			}
		}
		if got, want := r.Header.Get(headerMesh), p.tag(); got != want {
			refuse(w, http.StatusMisdirectedRequest, fmt.Errorf("mesh: this is a peer of %q, the request is for %q", want, got))
			return
		}
		id, at, _ := strings.Cut(r.Header.Get(headerPeer), " ")
		if caller, err := ledger.ParseLogID(id); err == nil {
			p.hears(caller, at)
			r = r.WithContext(context.WithValue(r.Context(), callerKey{}, caller))
		}
		p.mu.Lock()
		broken := p.broken
		p.mu.Unlock()
		if broken != nil {
			refuse(w, http.StatusServiceUnavailable, broken)
			return
		}
		r = requested(w, r)
		count := p.tally(r.URL.Path)
		if r.Body != nil && r.Body != http.NoBody {
			body := &patient{ReadCloser: r.Body, rc: http.NewResponseController(w), after: 2 * p.cfg.StallAfter, count: count.in}
			r = r.WithContext(r.Context()) // net/http goes on looking at its own request's body
			r.Body = body
			defer body.leave()
		}
		mux.ServeHTTP(&patientWriter{ResponseWriter: w, rc: http.NewResponseController(w), after: 2 * p.cfg.StallAfter, count: count.out}, r)
	})
}

// patient is a request's body that breaks off when nothing arrives for a while. Whoever sends it gives up earlier.
type patient struct {
	io.ReadCloser
	rc          *http.ResponseController
	after       time.Duration
	count       prometheus.Counter
	ended       bool
	interrupted atomic.Bool
}

// Interrupt implements api.UploadBody.
func (b *patient) Interrupt() {
	b.interrupted.Store(true)
	_ = b.rc.SetReadDeadline(time.Now())
}

func (b *patient) Read(p []byte) (int, error) {
	_ = b.rc.SetReadDeadline(time.Now().Add(b.after))
	if b.interrupted.Load() { // looked at after the deadline was set, which Interrupt does in the other order
		return 0, os.ErrDeadlineExceeded
	}
	n, err := b.ReadCloser.Read(p)
	add(b.count, n)
	if errors.Is(err, io.EOF) {
		// net/http watches the connection from now on; a deadline left behind would end the request.
		b.ended = true
		_ = b.rc.SetReadDeadline(time.Time{})
	}
	return n, err
}

// leave bounds how long net/http waits for the rest of a body that the handler did not read.
func (b *patient) leave() {
	if !b.ended {
		_ = b.rc.SetReadDeadline(time.Now().Add(b.after))
	}
}

// tag names the mesh and the protocol in requests between peers.
func (p *Peer) tag() string { return fmt.Sprintf("%s/%d", p.cfg.Mesh, protocol) }

// refuse answers with a problem.
func refuse(w http.ResponseWriter, status int, err error) {
	var problem *api.Problem
	if !errors.As(err, &problem) {
		problem = api.NewProblem("peer", status, http.StatusText(status), err.Error())
	}
	w.Header().Set("Content-Type", "application/problem+json")
	if problem.Status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	w.WriteHeader(problem.Status)
	_ = json.NewEncoder(w).Encode(problem)
}

// errGone is the error of a call that did not reach its peer at all: nobody listens there.
var errGone = errors.New("peer not reached")

// call sends a request to another peer and returns its answer, 2xx, whose body the caller drains or closes. A *api.Problem in
// the answer becomes the error. Reading the body fails when no byte arrives for Config.StallAfter, and everything when the peer
// is found to be dead.
func (p *Peer) call(ctx context.Context, method string, t target, path string, body io.Reader, edit func(*http.Request)) (*http.Response, error) {
	ctx, cancelCall := context.WithCancel(ctx)
	release := p.whileAlive(t.log, cancelCall)
	cancel := func() {
		release()
		cancelCall()
	}
	watch := time.AfterFunc(p.patience(path), cancelCall)
	fail := func(err error) (*http.Response, error) {
		watch.Stop()
		cancel()
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, p.scheme()+"://"+t.api+"/v1/peer/"+path, body)
	if err != nil {
		return fail(fmt.Errorf("mesh: %s: %w", t.name, err))
	}
	req.Header.Set(headerMesh, p.tag())
	p.introduce(req)
	p.mu.Lock()
	self := p.self
	p.mu.Unlock()
	req.Header.Set(headerPeer, self.String()+" "+p.cfg.API)
	if id := api.RequestOf(ctx); id != "" {
		req.Header.Set(api.HeaderRequest, id)
	}
	count := p.tally(path)
	if edit != nil {
		edit(req)
	}
	if r, ok := body.(*watched); ok {
		r.pause = func() { watch.Stop() }
		r.touch = func() { watch.Reset(p.cfg.StallAfter) }
		r.count = count.out
	}
	resp, err := p.http.Do(req)
	if err != nil {
		count.called("failed")
		var op *net.OpError
		if errors.As(err, &op) && op.Op == "dial" {
			if ctx.Err() == nil {
				p.refuses(t.log)
			}
			err = fmt.Errorf("%w: %w", errGone, err)
		}
		return fail(fmt.Errorf("mesh: %s: %w", t.name, err))
	}
	p.answers(t.log)
	watch.Reset(p.cfg.StallAfter)
	add(count.out, int(req.ContentLength)) // -1 for those that are watched
	resp.Body = &stallReader{ReadCloser: resp.Body, watch: watch, after: p.cfg.StallAfter, cancel: cancel, count: count.in}
	if resp.StatusCode/100 == 2 {
		count.called("ok")
		return resp, nil
	}
	count.called("refused")
	defer resp.Body.Close()
	var problem api.Problem
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if json.Unmarshal(b, &problem) != nil || problem.Status == 0 {
		problem = *api.NewProblem("peer", resp.StatusCode, resp.Status, resp.Status)
	}
	p.denied(t, &problem)
	return nil, fmt.Errorf("mesh: %s: %w", t.name, &problem)
}

// patience is how long a request may go without an answer. Entries and files are at hand, and sums begin with their first block; other
// answers take work.
func (p *Peer) patience(path string) time.Duration {
	if path == "entries" || strings.HasPrefix(path, "blobs/") || strings.HasPrefix(path, "sums/") {
		return min(firstByte, p.cfg.StallAfter)
	}
	return p.cfg.StallAfter
}

// watched is a request body that has the stall timer of its call run while the other side takes what was read, and not while this side has
// nothing to send.
type watched struct {
	io.Reader
	pause, touch func()
	count        prometheus.Counter
}

func (r *watched) Read(b []byte) (int, error) {
	if r.touch != nil {
		r.pause()
		defer r.touch()
	}
	n, err := r.Reader.Read(b)
	add(r.count, n)
	return n, err
}

// Close lets the transport end the reader it was given.
func (r *watched) Close() error {
	if c, ok := r.Reader.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// stallReader ends a call whose answer stops arriving.
type stallReader struct {
	io.ReadCloser
	watch  *time.Timer
	after  time.Duration
	cancel context.CancelFunc
	count  prometheus.Counter
	once   sync.Once
}

func (r *stallReader) Read(b []byte) (int, error) {
	r.watch.Reset(r.after)
	n, err := r.ReadCloser.Read(b)
	add(r.count, n)
	if err != nil {
		r.watch.Stop()
	}
	return n, err
}

func (r *stallReader) Close() error {
	err := r.ReadCloser.Close()
	r.once.Do(func() {
		r.watch.Stop()
		r.cancel()
	})
	return err
}

// drain reads what is left of a small answer, so that its connection can be used again, and closes it.
func drain(body io.ReadCloser) {
	_, _ = io.Copy(io.Discard, io.LimitReader(body, 64<<10))
	_ = body.Close()
}

// readBody reads a small request of at most limit bytes.
func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, api.TooLarge(tooLarge.Limit)
	}
	if err != nil {
		return nil, fmt.Errorf("mesh: the body broke off after %d bytes: %w", len(b), err)
	}
	return b, nil
}
