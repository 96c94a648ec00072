package mesh_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fedmesh/fedmesh/mesh/api"
)

// ask is a client of one peer.
func (c *cluster) ask(name string) *api.Client {
	c.t.Helper()
	client, err := c.client.Peer(name + ":80")
	if err != nil {
		c.t.Fatal(err)
	}
	return client
}

// open opens a session at a peer.
func (c *cluster) open(at, session string, seed []byte, change func(*api.SessionConfig)) api.SessionInfo {
	c.t.Helper()
	cfg := api.DefaultSessionConfig()
	if change != nil {
		change(&cfg)
	}
	c.keep(seed)
	info, created, err := c.ask(at).CreateSession(c.t.Context(), session, cfg, api.Bytes(seed))
	if err != nil || !created {
		c.t.Fatalf("open %s at %s: created %v, %v", session, at, created, err)
	}
	c.eventually(10*time.Second, func() error {
		for _, name := range c.running() {
			if info, err := c.nodes[name].peer.Session(session); err != nil || info.Model == "" {
				return fmt.Errorf("%s: %+v, %w", name, info, err)
			}
		}
		return nil
	})
	return info
}

// try pushes an update to one peer, and notes it when it is acknowledged, be it as a retry.
func (c *cluster) try(at, session string, o api.PushOptions, body []byte) (api.Receipt, error) {
	c.keep(body)
	r, err := c.ask(at).Push(c.t.Context(), session, o, api.Bytes(body))
	if err == nil {
		c.acked = append(c.acked, r)
	}
	return r, err
}

// push is try for updates that must be acknowledged, and be no duplicates.
func (c *cluster) push(at, session string, o api.PushOptions, body []byte) api.Receipt {
	c.t.Helper()
	r, err := c.try(at, session, o, body)
	if err != nil || r.Duplicate {
		c.t.Fatalf("push %s to %s: %+v, %v", o.Combiner, at, r, err)
	}
	return r
}

// session returns what a peer says of a session.
func (c *cluster) session(at, session string) api.SessionInfo {
	c.t.Helper()
	info, err := c.nodes[at].peer.Session(session)
	if err != nil {
		c.t.Fatalf("%s: %v", at, err)
	}
	return info
}

// rounds returns a peer's sealed rounds, from 1 on.
func (c *cluster) rounds(at, session string) []api.RoundInfo {
	c.t.Helper()
	all, err := c.nodes[at].peer.Rounds(session, 1, 1000)
	if err != nil {
		c.t.Fatalf("%s: %v", at, err)
	}
	return slices.DeleteFunc(all, func(r api.RoundInfo) bool { return r.State == api.RoundOpen })
}

// final waits until every peer that runs has at least n rounds, all of them final.
func (c *cluster) final(session string, n int) {
	c.t.Helper()
	c.eventually(2*time.Minute, func() error {
		for _, name := range c.running() {
			rounds := c.rounds(name, session)
			if len(rounds) < n {
				return fmt.Errorf("%s has %d rounds of %d", name, len(rounds), n)
			}
			for _, r := range rounds {
				if r.State != api.RoundFinal {
					return fmt.Errorf("%s: round %d is %s, waiting for %v", name, r.Round, r.State, r.WaitingFor)
				}
			}
		}
		return nil
	})
}

// counts waits until every peer that runs has all updates of session s that were acknowledged in final rounds, and no other rounds. How many
// rounds that takes depends on when those who come and go are taken note of, by rounds without content.
func (c *cluster) counts() {
	const session = "s"
	c.t.Helper()
	c.final(session, 1)
	c.eventually(2*time.Minute, func() error {
		for _, name := range c.running() {
			in := map[string]bool{}
			for _, r := range c.rounds(name, session) {
				if r.State != api.RoundFinal {
					return fmt.Errorf("%s: round %d is %s", name, r.Round, r.State)
				}
				for _, u := range r.Updates {
					in[u.Combiner+"/"+u.ID] = true
				}
			}
			for _, r := range c.acked {
				if r.Session == session && !in[r.Combiner+"/"+r.ID] {
					return fmt.Errorf("%s has %s/%s in no round", name, r.Combiner, r.ID)
				}
			}
		}
		return nil
	})
}

// settles waits until every one of the peers serves the model of round n.
func (c *cluster) settles(session string, n int, names ...string) {
	c.t.Helper()
	c.eventually(2*time.Minute, func() error {
		for _, name := range names {
			if info := c.session(name, session); info.ModelRound < uint64(n) {
				return fmt.Errorf("%s does not serve round %d: %s: %s", name, n, text(info), text(c.rounds(name, session)))
			}
		}
		return nil
	})
}

func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// metric returns the sum of a peer's metric over the series whose labels have the given value; of all, when it is empty. A histogram
// counts as its samples.
func (c *cluster) metric(at, name, value string) float64 {
	c.t.Helper()
	families, err := c.nodes[at].registry.Gather()
	if err != nil {
		c.t.Fatal(err)
	}
	var sum float64
	for _, f := range families {
		if f.GetName() != "fedmesh_"+name {
			continue
		}
		for _, m := range f.GetMetric() {
			ok := value == ""
			for _, l := range m.GetLabel() {
				ok = ok || l.GetValue() == value
			}
			if ok {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return sum
}

// problem fails the test unless err is a problem of this status whose text contains part.
func (c *cluster) problem(err error, status int, part string) {
	c.t.Helper()
	var p *api.Problem
	if !errors.As(err, &p) || p.Status != status || !strings.Contains(p.Error(), part) {
		c.t.Fatalf("got %v, want a problem of status %d with %q", err, status, part)
	}
}

// holds reports whether a peer has a model's bytes on its disk.
func (c *cluster) holds(name, digest string) bool {
	return slices.Contains(c.blobs(name), digest+".safetensors")
}

// blobs returns what is in a peer's folder of models, sorted, temporary files included.
func (c *cluster) blobs(name string) []string {
	c.t.Helper()
	entries, err := os.ReadDir(filepath.Join(c.dir, name, "blobs"))
	if err != nil {
		c.t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

// gone tells whether no running peer holds a model's bytes.
func (c *cluster) gone(digest string) error {
	for _, name := range c.running() {
		if c.holds(name, digest) {
			return fmt.Errorf("%s still holds %s", name, digest)
		}
	}
	return nil
}

// close closes a session and waits until all that run have its last round, final.
func (c *cluster) close(at, session string) {
	c.t.Helper()
	if _, err := c.ask(at).CloseSession(c.t.Context(), session); err != nil {
		c.t.Fatal(err)
	}
	c.eventually(2*time.Minute, func() error {
		for _, name := range c.running() {
			if info := c.session(name, session); info.State != api.SessionClosed {
				return fmt.Errorf("%s: %s: %s", name, text(info), text(c.rounds(name, session)))
			}
		}
		return nil
	})
	c.final(session, 1)
}

// asProblem is errors.As for problems.
func asProblem(err error, p **api.Problem) bool { return errors.As(err, p) }

func unmarshal(t *testing.T, b []byte, v any) {
	t.Helper()
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatal(err)
	}
}
