package fedn_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/fedmesh/fedmesh/mesh"
	"github.com/fedmesh/fedmesh/mesh/access"
	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/fedn"
	"github.com/fedmesh/fedmesh/mesh/fedn/fednpb"
	"github.com/fedmesh/fedmesh/mesh/meshtest"
	"github.com/fedmesh/fedmesh/mesh/store"
	"github.com/fedmesh/fedmesh/model"
	"github.com/fedmesh/fedmesh/model/codec"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/hashicorp/memberlist.(*Memberlist).probeNode"))
}

// bubble runs a test on a clock of its own, which stands still while anybody works: how fast the machine is does not matter.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		t.Cleanup(func() { time.Sleep(time.Minute) }) // for memberlist's last probes
		f(t)
	})
}

// peer is a mesh of one on a network in memory, which can be away for a while and refuses connections then.
type peer struct {
	t    *testing.T
	net  *meshtest.Network
	dir  string
	asks *api.Client
	let  *access.Set // nil: everybody in
	stop func()
}

const peerAddr = "a:80"

func startPeer(t *testing.T) *peer {
	t.Helper()
	p := &peer{t: t, net: meshtest.NewNetwork(1), dir: t.TempDir()}
	t.Cleanup(p.net.Close)
	p.asks = p.client()
	p.up()
	t.Cleanup(p.down)
	return p
}

func (p *peer) down() {
	if p.stop != nil {
		p.stop()
		p.stop = nil
	}
}

func (p *peer) up() {
	p.t.Helper()
	ln, err := p.net.Listen(peerAddr)
	if err != nil {
		p.t.Fatal(err)
	}
	cfg := mesh.DefaultConfig()
	cfg.Name, cfg.API, cfg.DataDir, cfg.Fsync = "a", peerAddr, p.dir, store.Never
	cfg.Transport, cfg.Dial = p.net.Transport("a"), p.net.Dialer("a")
	m, err := mesh.New(cfg)
	if err != nil {
		p.t.Fatal(err)
	}
	server := api.NewServer(m, p.options())
	mux := http.NewServeMux()
	mux.Handle("/v1/peer/", m.PeerHandler())
	mux.Handle("/", server)
	hs := server.HTTPServer(mux)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = hs.Serve(ln)
	}()
	if err := m.Start(p.t.Context()); err != nil {
		p.t.Fatal(err)
	}
	p.stop = func() {
		_ = hs.Close()
		<-served
		if err := m.Close(); err != nil {
			p.t.Error(err)
		}
	}
}

func (p *peer) options() api.ServerOptions {
	if p.let == nil {
		return api.ServerOptions{}
	}
	return api.ServerOptions{Tokens: func() *access.Set { return p.let }}
}

func (p *peer) client() *api.Client { return p.bearer("") }

func (p *peer) bearer(token string) *api.Client {
	p.t.Helper()
	c, err := api.NewClient([]string{peerAddr}, api.ClientOptions{MaxBackoff: 100 * time.Millisecond, Token: token, DialContext: p.net.Dialer("combiner")})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(c.Close)
	return c
}

// combiner calls a gateway as FEDn's does.
type combiner struct {
	t    *testing.T
	log  *lines
	said []string // what FEDn's combiner logs: the answers to models that it stored, and the errors
	stub fednpb.FunctionServiceClient
	stop func()
}

// lines are a log that may be read while it is written.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) Reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b.Reset()
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func startGateway(t *testing.T, c fedn.Mesh, name, dir string, change func(*fedn.Config)) *combiner {
	t.Helper()
	cb := &combiner{t: t, log: &lines{}}
	cfg := fedn.Config{Combiner: name, Session: "s", Open: api.DefaultSessionConfig(), Dir: dir, Logger: zerolog.New(cb.log)}
	cfg.Open.TargetCombiners = 1
	if change != nil {
		change(&cfg)
	}
	g, err := fedn.New(cfg, c)
	if err != nil {
		t.Fatal(err)
	}
	ln := bufconn.Listen(1 << 20)
	server := grpc.NewServer(fedn.ServerOptions()...)
	g.Register(server)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(ln)
	}()
	conn, err := grpc.NewClient("passthrough:gateway", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return ln.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	cb.stub = fednpb.NewFunctionServiceClient(conn)
	stopped := false
	cb.stop = func() {
		if stopped {
			return
		}
		stopped = true
		_ = conn.Close()
		server.Stop()
		<-served
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(cb.stop)
	return cb
}

// store sends a model in pieces of a size, as FEDn does in pieces of a megabyte.
func (c *combiner) store(id string, b []byte, size int) error {
	s, err := c.stub.HandleStoreModel(c.t.Context())
	if err != nil {
		return err
	}
	for len(b) > 0 {
		n := min(len(b), size)
		if err := s.Send(&fednpb.StoreModelRequest{Data: b[:n], Id: id}); err != nil {
			break // CloseAndRecv tells why
		}
		b = b[n:]
	}
	_ = s.Send(&fednpb.StoreModelRequest{Id: id})
	r, err := s.CloseAndRecv()
	if err != nil {
		c.said = append(c.said, err.Error())
		return err
	}
	c.said = append(c.said, r.GetStatus())
	return nil
}

// trained is what a client brings.
type trained struct {
	client string
	meta   string
	model  []byte
}

func examples(client string, n int, model []byte) trained {
	b, _ := json.Marshal(map[string]any{"num_examples": n, "epochs": 1})
	return trained{client, string(b), model}
}

// round does what FEDn does once in a round, and returns the aggregate.
func (c *combiner) round(global []byte, clients ...trained) ([]byte, error) {
	c.t.Helper()
	time.Sleep(time.Millisecond) // no two rounds take place at the same instant
	if err := c.store("global_model", global, 1000); err != nil {
		return nil, err
	}
	for _, cl := range clients {
		if _, err := c.stub.HandleMetadata(c.t.Context(), &fednpb.ClientMetaRequest{Metadata: cl.meta, ClientId: cl.client}); err != nil {
			return nil, err
		}
		if err := c.store(cl.client, cl.model, 777); err != nil {
			return nil, err
		}
	}
	return c.aggregate()
}

func (c *combiner) aggregate() ([]byte, error) {
	s, err := c.stub.HandleAggregation(c.t.Context(), &fednpb.AggregationRequest{Aggregate: "aggregate"})
	if err != nil {
		return nil, err
	}
	var out []byte
	for ended := false; ; {
		m, err := s.Recv()
		if errors.Is(err, io.EOF) {
			if !ended {
				c.t.Error("the stream has no message that ends it")
			}
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		ended = len(m.GetData()) == 0
		out = append(out, m.GetData()...)
	}
}

func (c *combiner) must(b []byte, err error) []byte {
	c.t.Helper()
	if err != nil {
		c.t.Fatalf("%v\n%s", err, c.log)
	}
	return b
}

// array is one of a model's arrays.
type array struct {
	dtype  model.DType
	values []float64
}

// npz makes a model of FEDn's: arrays named "0", "1" and so on.
func npz(t *testing.T, arrays ...array) []byte {
	t.Helper()
	var ts []model.Tensor
	for i, a := range arrays {
		ts = append(ts, model.Tensor{Name: string(rune('0' + i)), DType: a.dtype, Shape: []int64{int64(len(a.values))}})
	}
	l, err := model.NewLayout(ts)
	if err != nil {
		t.Fatal(err)
	}
	data := bytes.Clone(l.Header())
	for _, x := range l.Tensors() {
		for _, v := range arrays[x.Name[0]-'0'].values {
			data = encode(data, x.DType, v)
		}
	}
	var out bytes.Buffer
	if err := codec.Emit(&out, codec.NPZ, l, bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func encode(b []byte, d model.DType, v float64) []byte {
	switch d {
	case model.F64:
		return binary.LittleEndian.AppendUint64(b, math.Float64bits(v))
	case model.F32:
		return binary.LittleEndian.AppendUint32(b, math.Float32bits(float32(v)))
	case model.I64:
		return binary.LittleEndian.AppendUint64(b, uint64(int64(v)))
	}
	panic(d)
}

// memory is a file in memory.
type memory struct{ b []byte }

func (m *memory) WriteAt(p []byte, at int64) (int, error) {
	if need := int(at) + len(p); need > len(m.b) {
		m.b = append(m.b, make([]byte, need-len(m.b))...)
	}
	return copy(m.b[at:], p), nil
}

func (m *memory) ReadAt(p []byte, at int64) (int, error) { return bytes.NewReader(m.b).ReadAt(p, at) }

// read returns a model's arrays.
func read(t *testing.T, b []byte) []array {
	t.Helper()
	var m, scratch memory
	l, _, err := codec.Ingest(bytes.NewReader(b), &m, codec.Options{Scratch: &scratch})
	if err != nil {
		t.Fatal(err)
	}
	arrays := make([]array, len(l.Tensors()))
	for _, x := range l.Tensors() {
		a := array{dtype: x.DType}
		at := int64(len(l.Header())) + x.Offset
		for range x.Elements() {
			switch p := m.b[at:]; x.DType {
			case model.F64:
				a.values = append(a.values, math.Float64frombits(binary.LittleEndian.Uint64(p)))
			case model.F32:
				a.values = append(a.values, float64(math.Float32frombits(binary.LittleEndian.Uint32(p))))
			case model.I64:
				a.values = append(a.values, float64(int64(binary.LittleEndian.Uint64(p))))
			}
			at += x.DType.Size()
		}
		arrays[x.Name[0]-'0'] = a
	}
	return arrays
}

func f32(vs ...float64) array { return array{model.F32, vs} }
func f64(vs ...float64) array { return array{model.F64, vs} }
func i64(vs ...float64) array { return array{model.I64, vs} }

func nan() float64 { return math.NaN() }
