package main

import (
	"context"
	"fmt"
	"path/filepath"
)

// What happens in the run with fedmesh, by round; every round begins at both networks.
const (
	killsFrom  = 2 // in this round and the next two the peers a, b and c are killed, one in each
	controlDie = 6 // in this round the south's control loop is killed for good
	rounds     = 7
)

// roundResult is one round, at both networks.
type roundResult struct {
	Round    int                `json:"round"`
	Happened string             `json:"happened,omitempty"`
	Updates  int                `json:"updates"`  // of clients
	Examples []int64            `json:"examples"` // of each
	Peers    map[string]string  `json:"peers"`    // digest by peer
	Made     map[string]string  `json:"made"`     // digest by combiner and by network, of what it made
	Ulps     float64            `json:"ulps"`     // from the exactly weighted mean, at most
	Abs      float64            `json:"abs"`
	PushMS   map[string]float64 `json:"push_ms"` // by combiner, until the push was acknowledged
	Retried  []string           `json:"retried"` // combiners whose first peer was dead
	Seconds  map[string]float64 `json:"seconds"` // by network: FEDn's round
	Accuracy float64            `json:"accuracy"`
}

// meshed runs both networks over the mesh.
func (s *scene) meshed(ctx context.Context) (_ []roundResult, err error) {
	ns, err := layout(s.data)
	if err != nil {
		return nil, err
	}
	if err := s.mesh(ctx, ns); err != nil {
		return nil, err
	}
	ns[1].last = controlDie
	if err := s.networks(ctx, ns, rounds, true); err != nil {
		return nil, err
	}
	var out []roundResult
	living := ns
	for r := 1; r <= rounds; r++ {
		s.say("round %d of %d over fedmesh ...", r, rounds)
		res := roundResult{Round: r, Peers: map[string]string{}, Made: map[string]string{}, PushMS: map[string]float64{}, Seconds: map[string]float64{}}
		if err := living[0].begun(ctx, s, r); err != nil {
			return out, err
		}
		victim := ""
		switch {
		case r >= killsFrom && r < killsFrom+3:
			victim = s.cluster.Names()[r-killsFrom]
			res.Happened = "peer " + victim + " killed"
			err = s.cluster.Kill(victim)
		case r == controlDie:
			res.Happened = "control of " + ns[1].name + " killed for good"
			if err := ns[1].underWay(ctx, s, r); err != nil {
				return out, err
			}
			ns[1].control.kill()
			living = ns[:1]
		}
		if err != nil {
			return out, err
		}
		for _, n := range living {
			e, err := n.ended(ctx, r)
			if err != nil {
				return out, err
			}
			if !e.Model {
				return out, fmt.Errorf("fedn: round %d of %s over the mesh ended as %q without a model", r, n.name, e.Status)
			}
			res.Seconds[n.name] = e.Seconds
		}
		if victim != "" {
			if err := s.cluster.Restart(ctx, victim); err != nil {
				return out, err
			}
		}
		out = append(out, res)
	}
	return out, s.fill(ctx, ns, out)
}

// fill completes the results with what the files, the gateways and the peers tell.
func (s *scene) fill(ctx context.Context, ns []*network, results []roundResult) error {
	peers, err := s.peerRounds(ctx, len(results))
	if err != nil {
		return err
	}
	for i := range results {
		res := &results[i]
		// In its last round a network whose control loop dies still has its clients' work counted.
		took := ns
		if res.Round > controlDie {
			took = ns[:1]
		}
		committed := ns
		if res.Round >= controlDie {
			committed = ns[:1]
		}
		var clients []string
		gateway := 0
		for _, n := range ns {
			for _, c := range n.combiners {
				first := s.cluster.Names()[firstPeer(gateway)]
				gateway++
				if len(took) == 1 && n != ns[0] {
					continue
				}
				clients = append(clients, c.clients()...)
				ds, err := s.gatewayRounds(c)
				if err != nil {
					return err
				}
				if len(ds) < res.Round {
					return fmt.Errorf("fedn: the gateway of %s answered %d rounds, not %d", c.name, len(ds), res.Round)
				}
				d := ds[res.Round-1]
				res.Made[c.name], res.PushMS[c.name] = d.Model, d.Push
				if res.Happened == "peer "+first+" killed" {
					res.Retried = append(res.Retried, c.name)
				}
			}
		}
		us, err := s.updates(res.Round, clients)
		if err != nil {
			return err
		}
		res.Updates = len(us)
		for _, u := range us {
			res.Examples = append(res.Examples, u.examples)
		}
		for _, n := range committed {
			file := fmt.Sprintf("r%d-%s.npz", res.Round, n.name)
			a, err := readNPZ(filepath.Join(s.dir, file))
			if err != nil {
				return err
			}
			res.Made[n.name] = a.digest.String()
			d, err := s.distance(file, us)
			if err != nil {
				return err
			}
			res.Ulps, res.Abs = max(res.Ulps, d.ulps), max(res.Abs, d.abs)
			if res.Accuracy, err = s.accuracy(file); err != nil {
				return err
			}
			for _, c := range n.combiners { // what FEDn's combiner handed on is what its gateway said
				a, err := readNPZ(filepath.Join(s.dir, fmt.Sprintf("r%d-%s.npz", res.Round, c.name)))
				if err != nil {
					return err
				}
				if got := a.digest.String(); got != res.Made[c.name] {
					return fmt.Errorf("fedn: round %d: combiner %s handed on %.8s, its gateway gave it %.8s", res.Round, c.name, got, res.Made[c.name])
				}
			}
		}
		for name, rounds := range peers {
			res.Peers[name] = rounds[res.Round-1].Model
		}
	}
	return nil
}

// stockResult is what FEDn does by itself.
type stockResult struct {
	Round   int                `json:"round"`
	Status  map[string]string  `json:"status"` // by network
	Ulps    map[string]float64 `json:"ulps"`   // from the exactly weighted mean of the network's clients
	Abs     map[string]float64 `json:"abs"`
	Digests map[string]string  `json:"digests"`
}

// stock runs the same networks without fedmesh. The south's control loop is killed in the second round.
func (s *scene) stock(ctx context.Context) ([]stockResult, error) {
	ns, err := layout(s.data)
	if err != nil {
		return nil, err
	}
	const rounds, dies = 3, 2
	ns[1].last = dies
	if err := s.networks(ctx, ns, rounds, false); err != nil {
		return nil, err
	}
	var out []stockResult
	for r := 1; r <= rounds; r++ {
		s.say("round %d of %d without fedmesh ...", r, rounds)
		res := stockResult{Round: r, Status: map[string]string{}, Ulps: map[string]float64{}, Abs: map[string]float64{}, Digests: map[string]string{}}
		for i, n := range ns {
			if i == 1 && r >= dies {
				if r == dies {
					if err := n.begun(ctx, s, r); err != nil {
						return out, err
					}
					n.control.kill()
				}
				res.Status[n.name] = "dead"
				continue
			}
			e, err := n.ended(ctx, r)
			if err != nil {
				return out, err
			}
			res.Status[n.name] = e.Status
			if !e.Model {
				continue
			}
			file := fmt.Sprintf("r%d-%s.npz", r, n.name)
			us, err := s.updates(r, n.clientNames())
			if err != nil {
				return out, err
			}
			d, err := s.distance(file, us)
			if err != nil {
				return out, err
			}
			a, err := readNPZ(filepath.Join(s.dir, file))
			if err != nil {
				return out, err
			}
			res.Ulps[n.name], res.Abs[n.name], res.Digests[n.name] = d.ulps, d.abs, a.digest.String()
		}
		out = append(out, res)
	}
	return out, nil
}
