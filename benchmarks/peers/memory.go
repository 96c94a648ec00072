package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"math/rand/v2"

	"github.com/fedmesh/fedmesh/benchmarks/load"
	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/model"
)

// measureMemory runs a round of each memory case. The models are made while they
// are pushed: there may be more of them than fit into memory.
func measureMemory(ctx context.Context, c config, show func(string, ...any)) ([]Memory, error) {
	var out []Memory
	for _, m := range c.memoryCases() {
		show("memory: %d combiners, %s parameters ...", m.combiners, count(m.params))
		layout, err := model.NewLayout(load.Tensors(m.params))
		if err != nil {
			return nil, fmt.Errorf("peers: %w", err)
		}
		need := layout.Size() * int64(m.combiners+3) // seed and result, and some room
		if err := enough(c.dir, need, "without-memory"); err != nil {
			return nil, err
		}
		j := job{fsync: "never"}
		pool := newPool(c.seed)
		j.seed = pool.source(layout, 0)
		for i := range m.combiners {
			j.updates = append(j.updates, pool.source(layout, i+1))
			j.weights = append(j.weights, int64(900+37*i))
		}
		o, err := fedmesh(ctx, c, j)
		if err != nil {
			return nil, err
		}
		out = append(out, Memory{Combiners: m.combiners, Params: m.params, Bytes: layout.Size(), Seconds: o.seconds, Peak: o.peak})
	}
	return out, nil
}

// enough fails when there is too little disk space.
func enough(dir string, need int64, flag string) error {
	free, err := freeSpace(dir)
	if err != nil {
		return err
	}
	if free < need {
		return fmt.Errorf("peers: %s has %s free, this needs %s: give another folder with --dir, smaller models, or --%s",
			dir, size(free), size(need), flag)
	}
	return nil
}

// pool is a stock of float32 values that models are made of.
type pool []byte

const poolBytes = 4 << 20

func newPool(seed uint64) pool {
	p := make(pool, 0, poolBytes)
	r := rand.New(rand.NewPCG(seed, 0))
	for len(p) < poolBytes {
		p = binary.LittleEndian.AppendUint32(p, math.Float32bits(float32(r.NormFloat64()*0.05)))
	}
	return p
}

// source is a model of a layout that is made while it is read; each i gives
// another one.
func (p pool) source(layout *model.Layout, i int) api.Source {
	return func() (io.ReadCloser, int64, error) {
		return io.NopCloser(&made{head: layout.Header(), pool: p, at: i * 12_340 % len(p), left: layout.DataSize()}), layout.Size(), nil
	}
}

// made reads a header and then so many bytes of a pool, over and over.
type made struct {
	head []byte
	pool pool
	at   int
	left int64
}

func (m *made) Read(p []byte) (n int, err error) {
	if len(m.head) > 0 {
		n = copy(p, m.head)
		m.head = m.head[n:]
		return n, nil
	}
	if m.left == 0 {
		return 0, io.EOF
	}
	n = copy(p[:min(int64(len(p)), m.left)], m.pool[m.at:])
	m.at = (m.at + n) % len(m.pool)
	m.left -= int64(n)
	return n, nil
}
