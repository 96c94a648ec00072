package mesh_test

import (
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/fedmesh/fedmesh/aggregate"
	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/model"
)

var verbose = flag.Bool("peers.log", false, "show what the peers log")

// file returns a model of one float32 tensor.
func file(values ...float32) []byte {
	layout, err := model.NewLayout([]model.Tensor{{Name: "w", DType: model.F32, Shape: []int64{int64(len(values))}}})
	if err != nil {
		panic(err)
	}
	b := slices.Clone(layout.Header())
	for _, v := range values {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	return b
}

// random returns a model of n values of many magnitudes.
func random(rng *rand.Rand, n int) []byte {
	values := make([]float32, n)
	for i := range values {
		values[i] = float32(math.Ldexp(rng.Float64()-0.5, rng.IntN(30)-20))
	}
	return file(values...)
}

// values returns what file was made of.
func values(b []byte) []float32 {
	b = b[8+binary.LittleEndian.Uint64(b):]
	out := make([]float32, 0, len(b)/4)
	for ; len(b) > 0; b = b[4:] {
		out = append(out, math.Float32frombits(binary.LittleEndian.Uint32(b)))
	}
	return out
}

func digest(b []byte) string { return model.Sum(b).String() }

// keep notes a model's bytes for the oracle.
func (c *cluster) keep(b []byte) { c.files[digest(b)] = b }

// pull returns the bytes of a session's model from one peer.
func (c *cluster) pull(at, session string, o api.PullOptions) []byte {
	c.t.Helper()
	var b bytes.Buffer
	if _, err := c.ask(at).Pull(c.t.Context(), session, o, &b); err != nil {
		c.t.Fatalf("pull %s from %s: %v", session, at, err)
	}
	return b.Bytes()
}

// bytesOf returns the bytes of a model or update that the test has met, or that a peer serves.
func (c *cluster) bytesOf(session, d string) []byte {
	c.t.Helper()
	if c.files[d] == nil {
		c.keep(c.pull(c.running()[0], session, api.PullOptions{Digest: d}))
	}
	return c.files[d]
}

// oracle computes a round alone and in one piece from what was pushed. prev and state are of the round before, state nil where there
// is none.
func (c *cluster) oracle(session api.SessionInfo, seed, prev, state []byte, r api.RoundInfo) (next, nextState []byte) {
	c.t.Helper()
	if len(r.Updates) == 0 {
		return prev, state
	}
	layout, err := model.NewLayout([]model.Tensor{{Name: "w", DType: model.F32, Shape: []int64{int64(len(values(seed)))}}})
	if err != nil {
		c.t.Fatal(err)
	}
	scales, err := aggregate.ScanScales(layout, bytes.NewReader(seed))
	if err != nil {
		c.t.Fatal(err)
	}
	spec, err := aggregate.NewSpec(layout, scales)
	if err != nil {
		c.t.Fatal(err)
	}
	strategy, err := aggregate.Lookup(session.Config.Strategy, session.Config.Params)
	if err != nil {
		c.t.Fatal(err)
	}
	inputs, err := model.ParseDigest(r.Inputs)
	if err != nil {
		c.t.Fatal(err)
	}
	round := aggregate.Round{
		Spec: spec, Number: r.Round, Inputs: inputs, Secret: c.secret,
		Prev: aggregate.Model{Digest: model.Sum(prev), Source: bytes.NewReader(prev)},
		Base: func(d model.Digest) (io.ReaderAt, error) {
			return bytes.NewReader(c.bytesOf(session.Name, d.String())), nil
		},
	}
	if state != nil {
		round.State = aggregate.Model{Digest: model.Sum(state), Source: bytes.NewReader(state)}
	}
	for _, u := range r.Updates {
		base, err := model.ParseDigest(u.Base)
		if err != nil {
			c.t.Fatal(err)
		}
		round.Updates = append(round.Updates, aggregate.Update{
			Weight: u.Weight, Base: base, BaseRound: u.BaseRound, Name: u.Combiner, Source: bytes.NewReader(c.bytesOf(session.Name, u.Digest)),
		})
	}
	plan, err := aggregate.PlanRound(c.t.Context(), strategy, round)
	if err != nil {
		c.t.Fatal(err)
	}
	out := bytes.NewBuffer(slices.Clone(layout.Header()))
	to := aggregate.Output{Model: out}
	var kept memory
	if s, ok := strategy.(aggregate.Stateful); ok {
		l, err := s.StateLayout(spec)
		if err != nil {
			c.t.Fatal(err)
		}
		kept = append(slices.Clone(l.Header()), make([]byte, l.DataSize())...)
		to.State = kept
	}
	if _, err := plan.Range(c.t.Context(), nil, 0, spec.Elements(), nil, to); err != nil {
		c.t.Fatal(err)
	}
	return out.Bytes(), kept
}

// memory is a file that is as long as it will be.
type memory []byte

func (m memory) WriteAt(p []byte, off int64) (int, error) { return copy(m[off:], p), nil }

// agree waits until all peers that run derive the same rounds, checks that each serves the same bytes for each, and that these are
// the oracle's.
func (c *cluster) agree(session string) []api.RoundInfo {
	c.t.Helper()
	names := c.running()
	var rounds []api.RoundInfo
	c.eventually(10*time.Second, func() error {
		rounds = c.rounds(names[0], session)
		for _, name := range names[1:] {
			theirs := c.rounds(name, session)
			for i := range max(len(rounds), len(theirs)) {
				if i >= len(rounds) || i >= len(theirs) || text(theirs[i]) != text(rounds[i]) {
					return fmt.Errorf("%s and %s differ from round %d on:\n%s\n%s", name, names[0], i+1, text(theirs[min(i, len(theirs)):]), text(rounds[min(i, len(rounds)):]))
				}
			}
		}
		return nil
	})
	info := c.session(names[0], session)
	seed := c.bytesOf(session, info.Seed)
	prev, state := seed, []byte(nil)
	for _, r := range rounds {
		want, next := c.oracle(info, seed, prev, state, r)
		c.keep(want)
		for _, name := range names {
			var got bytes.Buffer
			_, err := c.ask(name).Pull(c.t.Context(), session, api.PullOptions{Round: &r.Round}, &got)
			if api.TypeModelGone.Is(err) && c.forgetful && r.Model == digest(want) {
				continue
			}
			if err != nil || !bytes.Equal(got.Bytes(), want) {
				c.t.Fatalf("round %d at %s: model %s, %v, the oracle's is %s: %s", r.Round, name, digest(got.Bytes()), err, digest(want), text(r))
			}
		}
		for peer, d := range r.Computed {
			if d != digest(want) {
				c.t.Fatalf("round %d: %s says that it computed %s, not %s", r.Round, peer, d, digest(want))
			}
		}
		prev, state = want, next
	}
	for _, name := range names {
		if got := c.pull(name, session, api.PullOptions{}); !bytes.Equal(got, prev) {
			c.t.Fatalf("%s serves %s, not %s", name, digest(got), digest(prev))
		}
	}
	return rounds
}

// counted checks that each update acknowledged in a session is in exactly one of its rounds, and that nothing else is.
func (c *cluster) counted(session string, rounds []api.RoundInfo) {
	c.t.Helper()
	in := map[string]int{}
	total := 0
	for _, r := range rounds {
		for _, u := range r.Updates {
			in[u.Combiner+"/"+u.ID+"/"+u.Digest]++
			total++
		}
	}
	want := map[string]bool{}
	for _, r := range c.acked {
		if r.Session != session {
			continue
		}
		key := r.Combiner + "/" + r.ID + "/" + r.Digest
		want[key] = true
		if in[key] != 1 {
			c.t.Errorf("acknowledged update %s is in %d rounds", key, in[key])
		}
	}
	if total != len(want) {
		c.t.Errorf("%d updates were counted, %d acknowledged: %s", total, len(want), text(rounds))
	}
}

// weighted describes an update of a combiner.
func weighted(combiner string, weight int64) api.PushOptions {
	return api.PushOptions{Combiner: combiner, Weight: weight}
}

// from is weighted with a base.
func from(base, combiner string, weight int64) api.PushOptions {
	return api.PushOptions{Combiner: combiner, Weight: weight, Base: base}
}

// named gives an update an id.
func named(id string, o api.PushOptions) api.PushOptions {
	o.ID = id
	return o
}

// combiner names the i-th.
func combiner(i int) string { return fmt.Sprintf("c%d", i) }
