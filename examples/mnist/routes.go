package main

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/fedmesh/fedmesh/mesh/api"
)

// routes has a client for each peer that begins with that peer and goes on to
// the others when it fails.
type routes []*api.Client

func newRoutes(urls []string) (routes, error) {
	var out routes
	for i := range urls {
		c, err := api.NewClient(slices.Concat(urls[i:], urls[:i]), api.ClientOptions{})
		if err != nil {
			out.close()
			return nil, fmt.Errorf("mnist: %w", err)
		}
		out = append(out, c)
	}
	return out, nil
}

// pick draws a peer to push to, and another to pull from.
func (r routes) pick(random *rand.Rand) (to, from *api.Client) {
	i := random.IntN(len(r))
	j := i
	if len(r) > 1 {
		j = (i + 1 + random.IntN(len(r)-1)) % len(r)
	}
	return r[i], r[j]
}

func (r routes) close() {
	for _, c := range r {
		c.Close()
	}
}
