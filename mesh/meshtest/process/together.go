//go:build unix

package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/fedmesh/fedmesh/mesh/api"
)

// Together waits until all nodes that run take each other for alive: one may be ready before it has met all the others, and goes on
// without those until then. The token is shown where nodes want one, and may be empty.
func (c *Cluster) Together(ctx context.Context, token string) error {
	ctx, cancel := context.WithTimeout(ctx, c.options.ReadyTimeout)
	defer cancel()
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	running := c.Running()
	for _, name := range running {
		n, err := c.node(name)
		if err != nil {
			return err
		}
		last := errors.New("it was not asked")
		for err = c.sees(ctx, n, running, token); err != nil; err = c.sees(ctx, n, running, token) {
			if ctx.Err() != nil {
				return fmt.Errorf("process: %s has not met the others: %w (%w)\n%s", name, ctx.Err(), last, c.Tail(name, 20))
			}
			last = err
			select {
			case <-ctx.Done():
			case <-tick.C:
			}
		}
	}
	return nil
}

// sees returns nil when a node takes all of these for alive.
func (c *Cluster) sees(ctx context.Context, n *node, names []string, token string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, n.url()+"/v1/mesh", nil)
	if err != nil {
		return err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	var info api.MeshInfo
	if err := json.NewDecoder(resp.Body).Decode(&info); err != nil {
		return err
	}
	var alive []string
	for _, p := range info.Peers {
		if p.State == api.PeerAlive {
			alive = append(alive, p.Name)
		}
	}
	if slices.ContainsFunc(names, func(name string) bool { return !slices.Contains(alive, name) }) {
		return fmt.Errorf("it sees only %s", strings.Join(alive, ", "))
	}
	return nil
}
