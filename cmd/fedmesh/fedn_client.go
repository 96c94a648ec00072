package main

import (
	"context"
	"crypto/tls"
	"io"
	"sync"

	"github.com/rs/zerolog"

	"github.com/fedmesh/fedmesh/mesh/access"
	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/certs"
)

// lastingClient is a client for a process that lasts: it takes over what changes in the files with its token and certificates. A gateway's mesh is one.
type lastingClient struct {
	peers   []string
	options api.ClientOptions
	secret  *access.Secret // nil: options.Token for good
	store   *certs.Store   // nil: options.TLS for good

	stop  context.CancelFunc
	tasks sync.WaitGroup

	mu         sync.Mutex
	now        *api.Client
	token      string
	generation uint64
}

// lasting makes a client of what the flags say; token is shown where no file is named. The caller closes it.
func (f *clientFlags) lasting(token string, log zerolog.Logger) (*lastingClient, error) {
	c := &lastingClient{peers: f.peers, options: api.ClientOptions{UserAgent: "fedmesh/" + readBuild().Version, Token: token, Logger: f.notes}}
	// What is wrong with the flags is said as by all commands.
	config, err := f.tls.config()
	if err != nil {
		return nil, err
	}
	if config != nil {
		if c.store, err = certs.Open(f.tls.files, log); err != nil {
			return nil, err
		}
	}
	if f.token != "" {
		if c.secret, err = access.OpenSecret(f.token, log); err != nil {
			return nil, err
		}
	}
	if c.now, err = c.make(); err != nil {
		return nil, &usageError{err}
	}
	var ctx context.Context
	ctx, c.stop = context.WithCancel(context.Background())
	if c.store != nil {
		c.tasks.Go(func() { c.store.Watch(ctx, lookAtFiles, nil) })
	}
	return c, nil
}

// make makes a client of what the files say now. It is called with mu held, or before anybody else knows c.
func (c *lastingClient) make() (*api.Client, error) {
	o := c.options
	if c.secret != nil {
		c.token = c.secret.Token()
		o.Token = c.token
	}
	if c.store != nil {
		c.generation = c.store.Generation()
		o.TLS = c.store.Client()
		if show := o.TLS.GetClientCertificate; show != nil { // a call under way goes on with the new one, too
			o.TLS.Certificates = nil
			o.TLS.GetClientCertificate = func(r *tls.CertificateRequestInfo) (*tls.Certificate, error) {
				return c.store.Client().GetClientCertificate(r)
			}
		}
	}
	return api.NewClient(c.peers, o)
}

// client is the one to ask now.
func (c *lastingClient) client() *api.Client {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.secret != nil && c.secret.Token() != c.token || c.store != nil && c.store.Generation() != c.generation {
		if fresh, err := c.make(); err == nil { // the peers were good once
			c.now.Close()
			c.now = fresh
		}
	}
	return c.now
}

// Close drops idle connections and looks at no files any more.
func (c *lastingClient) Close() {
	c.stop()
	c.tasks.Wait()
	c.client().Close()
}

// Peers lists the peers' URLs.
func (c *lastingClient) Peers() []string { return c.client().Peers() }

func (c *lastingClient) Session(ctx context.Context, session string) (api.SessionInfo, error) {
	return c.client().Session(ctx, session)
}

func (c *lastingClient) CreateSession(ctx context.Context, name string, cfg api.SessionConfig, seed api.Source) (api.SessionInfo, bool, error) {
	return c.client().CreateSession(ctx, name, cfg, seed)
}

func (c *lastingClient) Head(ctx context.Context, session string, o api.PullOptions) (api.ModelInfo, error) {
	return c.client().Head(ctx, session, o)
}

func (c *lastingClient) Pull(ctx context.Context, session string, o api.PullOptions, w io.Writer) (api.ModelInfo, error) {
	return c.client().Pull(ctx, session, o, w)
}

func (c *lastingClient) Push(ctx context.Context, session string, o api.PushOptions, body api.Source) (api.Receipt, error) {
	return c.client().Push(ctx, session, o, body)
}

func (c *lastingClient) Rounds(ctx context.Context, session string, from uint64, limit int) ([]api.RoundInfo, error) {
	return c.client().Rounds(ctx, session, from, limit)
}
