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
	roundPatience = 4 * time.Minute // FEDn's, for one round
	roundTimeout  = time.Minute     // the mesh's, counted from where the round before ended: all four are in within that, however slow the machine
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
	s.cluster, err = process.NewCluster(process.Options{Binary: s.fedmesh, N: 3, Dir: filepath.Join(s.dir, "peers"), Mesh: "fedn", ReadyTimeout: roundPatience})
	if err != nil {
		return err
	}
	// A session opened before they have met could begin with a round without content.
	if err := errors.Join(s.cluster.Start(ctx), s.cluster.Together(ctx, "")); err != nil {
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
				"--listen", fmt.Sprintf("127.0.0.1:%d", c.hooks), "--target-combiners", "4", "--round-timeout", roundTimeout.String(), "--log-format", "json",
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

// peerRounds asks each living peer for the models of the session's first so many rounds, by peer and round. One that is behind is waited for.
func (s *scene) peerRounds(ctx context.Context, n int) (map[string][]api.RoundInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, roundPatience)
	defer cancel()
	out := map[string][]api.RoundInfo{}
	for _, p := range s.cluster.Peers() {
		c, err := api.NewClient([]string{p.URL}, api.ClientOptions{Passes: 5})
		if err != nil {
			return nil, fmt.Errorf("fedn: %w", err)
		}
		last := await(ctx, fmt.Sprintf("peer %s has not computed %d rounds", p.Name, n), func() bool {
			out[p.Name], err = process.AllRounds(ctx, c, session)
			return err == nil && len(out[p.Name]) >= n && !slices.ContainsFunc(out[p.Name][:n], func(r api.RoundInfo) bool { return r.Model == "" })
		})
		c.Close()
		if last != nil {
			return nil, errors.Join(last, err)
		}
	}
	return out, nil
}
