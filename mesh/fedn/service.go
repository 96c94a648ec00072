package fedn

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/fedmesh/fedmesh/aggregate"
	"github.com/fedmesh/fedmesh/mesh/fedn/fednpb"
	"github.com/fedmesh/fedmesh/model/codec"
)

// globalModel is the id under which FEDn stores the model that all trained from.
const globalModel = "global_model"

// refuseAgain is how soon FEDn tries again when an aggregation has failed; there is more between two rounds, if they are not very short.
const refuseAgain = 5 * time.Second

// errSaid is what is wrong with a client whose metadata were refused, which the log has said.
var errSaid = errors.New("fedn: its metadata cannot be used")

// ServerOptions are what a gRPC server of a Gateway needs: FEDn pings an idle connection
// every five minutes, and sends models in pieces of a megabyte.
func ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Minute, PermitWithoutStream: true}),
		grpc.MaxRecvMsgSize(4 * pieceBytes),
	}
}

// Register has a server answer for g.
func (g *Gateway) Register(s grpc.ServiceRegistrar) { fednpb.RegisterFunctionServiceServer(s, g) }

// HandleProvidedFunctions implements FEDn's service: the gateway aggregates, whatever code
// FEDn was given.
func (g *Gateway) HandleProvidedFunctions(context.Context, *fednpb.ProvidedFunctionsRequest) (*fednpb.ProvidedFunctionsResponse, error) {
	return &fednpb.ProvidedFunctionsResponse{AvailableFunctions: map[string]bool{
		"aggregate": true, "incremental_aggregate": false, "client_selection": false, "client_settings": false,
	}}, nil
}

// HandleClientSelection implements FEDn's service: all clients train.
func (g *Gateway) HandleClientSelection(_ context.Context, r *fednpb.ClientSelectionRequest) (*fednpb.ClientSelectionResponse, error) {
	return &fednpb.ClientSelectionResponse{ClientIds: r.GetClientIds()}, nil
}

// HandleClientConfig implements FEDn's service: clients get no settings.
func (g *Gateway) HandleClientConfig(s grpc.ClientStreamingServer[fednpb.ClientConfigRequest, fednpb.ClientConfigResponse]) error {
	p := pieces{next: func() ([]byte, error) {
		m, err := s.Recv()
		return m.GetData(), err
	}}
	if err := p.drain(); err != nil {
		return err
	}
	return s.SendAndClose(&fednpb.ClientConfigResponse{ClientSettings: "{}"})
}

// HandleMetadata implements FEDn's service. What cannot be used is left out of the round, with
// a line in the log: an error would make FEDn give up the whole round.
func (g *Gateway) HandleMetadata(_ context.Context, r *fednpb.ClientMetaRequest) (*fednpb.ClientMetaResponse, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	client := r.GetClientId()
	weight, err := weightOf(r.GetMetadata())
	if err == nil {
		err = g.weigh(client, weight)
	}
	if err != nil {
		if g.now != nil {
			g.now.bad[client] = fmt.Errorf("%w: %w", errSaid, err)
		}
		g.leaveOut(client, err)
		return &fednpb.ClientMetaResponse{Status: "left out: " + err.Error()}, nil
	}
	return &fednpb.ClientMetaResponse{Status: "stored"}, nil
}

// weigh notes a client's weight.
func (g *Gateway) weigh(client string, weight int64) error {
	c := g.now
	if c == nil {
		return errors.New("fedn: metadata before a global model")
	}
	if _, ok := c.summed[client]; ok {
		return nil
	}
	total := weight
	for name, w := range c.weights {
		if name != client {
			total += w
		}
	}
	if total > aggregate.MaxTotalWeight {
		return fmt.Errorf("fedn: with %d examples the round would have more than 2^38-1", weight)
	}
	c.weights[client] = weight
	delete(c.bad, client)
	return nil
}

// weightOf is the number of examples that a client's metadata tells.
func weightOf(metadata string) (int64, error) {
	var m struct {
		NumExamples *float64 `json:"num_examples"`
	}
	if err := json.Unmarshal([]byte(metadata), &m); err != nil {
		return 0, fmt.Errorf("fedn: the metadata is no JSON object: %w", err)
	}
	switch {
	case m.NumExamples == nil:
		return 0, errors.New("fedn: the metadata has no num_examples: return it from the client's training function")
	case *m.NumExamples != math.Trunc(*m.NumExamples) || *m.NumExamples < 1 || *m.NumExamples > aggregate.MaxTotalWeight:
		return 0, fmt.Errorf("fedn: num_examples is %v; it must be a whole number from 1 to 2^38-1", *m.NumExamples)
	}
	return int64(*m.NumExamples), nil
}

// HandleStoreModel implements FEDn's service. A client's model that cannot be used is left out;
// without the global model there is no round.
func (g *Gateway) HandleStoreModel(s grpc.ClientStreamingServer[fednpb.StoreModelRequest, fednpb.StoreModelResponse]) error {
	first, err := s.Recv()
	if err != nil {
		return status.Error(codes.InvalidArgument, "fedn: a model without a message")
	}
	id := first.GetId()
	p := &pieces{left: first.GetData(), next: func() ([]byte, error) {
		m, err := s.Recv()
		return m.GetData(), err
	}}
	if len(p.left) == 0 {
		p.err = io.EOF
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	said := "stored the model of " + id
	if id == globalModel {
		var note string
		if note, err = g.begin(s.Context(), p); note != "" {
			said += ", but " + note
		}
	} else {
		err = g.store(s.Context(), id, p)
	}
	if s.Context().Err() != nil {
		return s.Context().Err()
	}
	if drained := p.drain(); drained != nil {
		return drained
	}
	switch {
	case err == nil:
		return s.SendAndClose(&fednpb.StoreModelResponse{Status: said})
	case id == globalModel:
		return g.refuseGlobal(err)
	}
	if !errors.Is(err, errSaid) {
		g.leaveOut(id, err)
	}
	return s.SendAndClose(&fednpb.StoreModelResponse{Status: "left out: " + err.Error()})
}

// refuseGlobal answers a combiner whose global model cannot be used: it goes on by itself. FEDn logs an error of one code and tries thrice, and another
// one it neither logs nor tries again; so it gets the first once a round.
func (g *Gateway) refuseGlobal(err error) error {
	closed := g.now.Close() // what was stored before belongs to another model
	g.now = nil
	do, code := g.advice(err), codes.FailedPrecondition
	switch {
	case g.refusedAt.Add(refuseAgain).After(time.Now()):
		code, g.refusedAt = codes.InvalidArgument, time.Time{}
	case g.trouble.fresh("global: "+err.Error(), g.cfg.again):
		g.log.Error().Err(errors.Join(err, closed)).Str("do", do).Msg("the combiner's global model cannot be used: it goes on without the mesh")
		fallthrough
	default:
		g.refusedAt = time.Now()
	}
	return status.Errorf(code, "the mesh cannot use the combiner's global model: %v: %s", err, do)
}

// store takes a client's model.
func (g *Gateway) store(ctx context.Context, client string, r io.Reader) error {
	if g.now == nil {
		return errors.New("fedn: a client's model before a global model")
	}
	if err := g.now.bad[client]; err != nil {
		return err
	}
	f, err := ingest(g.cfg.Dir, r)
	if err != nil {
		return err
	}
	return g.now.add(ctx, client, f)
}

func (g *Gateway) leaveOut(client string, err error) {
	g.log.Warn().Err(err).Str("client", client).Msg("a client is left out of this round")
}

// HandleAggregation implements FEDn's service.
func (g *Gateway) HandleAggregation(_ *fednpb.AggregationRequest, s grpc.ServerStreamingServer[fednpb.AggregationResponse]) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	f, err := g.answer(s.Context())
	if err != nil {
		g.log.Error().Err(err).Msg("no aggregate")
		return status.Error(codes.Internal, err.Error())
	}
	out := &sender{buf: make([]byte, 0, pieceBytes), send: func(b []byte) error {
		return s.Send(&fednpb.AggregationResponse{Data: b})
	}}
	if err := codec.Emit(out, codec.NPZ, f.layout, f); err != nil {
		return err
	}
	return out.end()
}
