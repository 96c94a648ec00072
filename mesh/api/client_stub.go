package api

import (
	"context"
	"errors"
	"io"
)

const headerRound = "Fedmesh-Round"

var errStub = errors.New("api: not built yet")

// Client talks to a mesh through any of its peers.
type Client struct{}

// NewClient makes a client.
func NewClient(peers []string, o ClientOptions) (*Client, error) { return nil, errStub }

// Close drops idle connections.
func (c *Client) Close() {}

// Peers lists the peers' URLs.
func (c *Client) Peers() []string { return nil }

// Peer is a client of one peer only.
func (c *Client) Peer(url string) (*Client, error) { return nil, errStub }

// CreateSession opens a session; created is false when the same one was open.
func (c *Client) CreateSession(ctx context.Context, name string, cfg SessionConfig, seed Source) (info SessionInfo, created bool, err error) {
	return SessionInfo{}, false, errStub
}

// CloseSession closes one.
func (c *Client) CloseSession(ctx context.Context, session string) (SessionInfo, error) {
	return SessionInfo{}, errStub
}

// Sessions lists.
func (c *Client) Sessions(ctx context.Context) ([]SessionInfo, error) { return nil, errStub }

// Session describes one.
func (c *Client) Session(ctx context.Context, session string) (SessionInfo, error) {
	return SessionInfo{}, errStub
}

// Push pushes an update.
func (c *Client) Push(ctx context.Context, session string, o PushOptions, body Source) (Receipt, error) {
	return Receipt{}, errStub
}

// Pull writes a model to w.
func (c *Client) Pull(ctx context.Context, session string, o PullOptions, w io.Writer) (ModelInfo, error) {
	return ModelInfo{}, errStub
}

// Head describes a model without its bytes.
func (c *Client) Head(ctx context.Context, session string, o PullOptions) (ModelInfo, error) {
	return ModelInfo{}, errStub
}

// Rounds lists up to limit rounds from the given one upwards; from 0, the last ones.
func (c *Client) Rounds(ctx context.Context, session string, from uint64, limit int) ([]RoundInfo, error) {
	return nil, errStub
}

// Round describes one.
func (c *Client) Round(ctx context.Context, session string, n uint64) (RoundInfo, error) {
	return RoundInfo{}, errStub
}

// Mesh describes the mesh.
func (c *Client) Mesh(ctx context.Context) (MeshInfo, error) { return MeshInfo{}, errStub }

// Ready asks whether the peer takes part.
func (c *Client) Ready(ctx context.Context) error { return errStub }

// Leave makes the peer leave; for a client of one peer.
func (c *Client) Leave(ctx context.Context) error { return errStub }

// Events calls fn with each event of one peer until the context ends, fn fails or the stream does.
func (c *Client) Events(ctx context.Context, fn func(Event) error) error { return errStub }
