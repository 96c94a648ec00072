package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fedmesh/fedmesh/examples/mnist/digits"
	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/meshtest/process"
)

const (
	roundPatience = 60 * time.Second // FEDn's, for one round
	session       = "digits"
)

// scene is a folder, and what runs in it.
type scene struct {
	config
	dir    string
	python interpreter
	seed   string // file
	data   []string
	test   *digits.Set
	say    func(string, ...any)

	running []*child
	cluster *process.Cluster
}

func (s *scene) start(name, binary string, args []string) (*child, error) {
	p, err := start(s.dir, name, binary, args)
	if err == nil {
		s.running = append(s.running, p)
	}
	return p, err
}

// close ends all processes, the last started first.
func (s *scene) close() error {
	for _, p := range slices.Backward(s.running) {
		p.kill()
	}
	s.running = nil
	if s.cluster == nil {
		return nil
	}
	err := s.cluster.Close()
	s.cluster = nil
	return err
}

// updateOf is the file in which a client leaves what it brought in a round.
func (s *scene) updateOf(client string, round int) string {
	return filepath.Join(s.dir, fmt.Sprintf("%s-%d.npz", client, round))
}

// mesh starts the peers, and a gateway beside each combiner. The gateways' first peers differ, so that each
// peer is the first of some.
func (s *scene) mesh(ctx context.Context, ns []*network) error {
	var err error
	s.cluster, err = process.NewCluster(process.Options{Binary: s.fedmesh, N: 3, Dir: filepath.Join(s.dir, "peers"), Mesh: "fedn"})
	if err != nil {
		return err
	}
	if err := s.cluster.Start(ctx); err != nil {
		return err
	}
	i := 0
	for _, n := range ns {
		for _, c := range n.combiners {
			urls := s.cluster.URLs()
			first := firstPeer(i)
			urls = slices.Concat(urls[first:], urls[:first])
			i++
			_, err := s.start("gateway-"+c.name, s.fedmesh, []string{
				"fedn", "--combiner", c.name, "--session", session, "--data-dir", filepath.Join(s.dir, "gateway-"+c.name), "--peers", strings.Join(urls, ","),
				"--listen", fmt.Sprintf("127.0.0.1:%d", c.hooks), "--target-combiners", "4", "--round-timeout", "20s", "--log-format", "json",
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// firstPeer is which of the three peers the i-th gateway asks first.
func firstPeer(i int) int { return i % 3 }

// done is what a gateway's log says of a round.
type done struct {
	Message string  `json:"message"`
	Update  string  `json:"update"`
	Model   string  `json:"model"`
	Weight  int64   `json:"weight"`
	Clients int     `json:"clients"`
	Push    float64 `json:"push"` // milliseconds until the update was acknowledged
	Took    float64 `json:"took"` // milliseconds until its round's model was here
}

// gatewayRounds reads what a gateway did, in order.
func (s *scene) gatewayRounds(c combiner) ([]done, error) {
	b, err := os.ReadFile(filepath.Join(s.dir, "gateway-"+c.name+".log"))
	if err != nil {
		return nil, fmt.Errorf("fedn: %w", err)
	}
	var out []done
	for line := range strings.Lines(string(b)) {
		var d done
		if json.Unmarshal([]byte(line), &d) == nil && d.Message == "round done" {
			out = append(out, d)
		}
	}
	return out, nil
}

// peerRounds asks each living peer for the models of the session's rounds, by peer and round.
func (s *scene) peerRounds(ctx context.Context) (map[string][]api.RoundInfo, error) {
	out := map[string][]api.RoundInfo{}
	for _, p := range s.cluster.Peers() {
		c, err := api.NewClient([]string{p.URL}, api.ClientOptions{Passes: 5})
		if err == nil {
			out[p.Name], err = process.AllRounds(ctx, c, session)
			c.Close()
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("fedn: rounds of peer %s", p.Name), err)
		}
	}
	return out, nil
}
