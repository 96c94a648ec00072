package load

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"

	"golang.org/x/sync/errgroup"

	"github.com/fedmesh/fedmesh/model"
)

// Options say what to make.
type Options struct {
	Params  int64  // float32 parameters of a model
	Updates int    // models to push
	Seed    uint64 // the same seed gives the same bytes
}

// Load is a session's seed and one round's updates, as canonical files in
// memory.
type Load struct {
	Layout  *model.Layout
	Seed    []byte
	Updates [][]byte
	Weights []int64 // numbers of examples

	buf []byte // where copies and means go, touched already
}

// New makes a load: normally distributed values around those of the seed, all
// different.
func New(ctx context.Context, o Options) (*Load, error) {
	if o.Params < 1 || o.Updates < 1 {
		return nil, fmt.Errorf("load: %d parameters and %d updates, want 1 at least", o.Params, o.Updates)
	}
	layout, err := model.NewLayout(Tensors(o.Params))
	if err != nil {
		return nil, err
	}
	l := &Load{Layout: layout, Updates: make([][]byte, o.Updates), Weights: make([]int64, o.Updates)}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.NumCPU())
	for i := range o.Updates + 1 {
		g.Go(func() error {
			file := fill(layout, rand.NewPCG(o.Seed, uint64(i)))
			if i == 0 {
				l.Seed = file
			} else {
				l.Updates[i-1], l.Weights[i-1] = file, int64(900+37*i)
			}
			return ctx.Err()
		})
	}
	g.Go(func() error {
		l.buf = make([]byte, layout.Size())
		for i := 0; i < len(l.buf); i += 512 {
			l.buf[i] = 1 // the first touch of fresh memory is slow, and none of what is measured
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	return l, nil
}

// Bytes is the size of all updates.
func (l *Load) Bytes() int64 { return l.Layout.Size() * int64(len(l.Updates)) }

// Tensors divides so many parameters over tensors of the shapes that models
// have: an embedding, layers of a matrix and a bias each, and a head that takes
// what is left.
func Tensors(params int64) []model.Tensor {
	const layers, width = 12, 512
	f32 := func(name string, shape ...int64) model.Tensor {
		return model.Tensor{Name: name, DType: model.F32, Shape: shape}
	}
	var ts []model.Tensor
	left := params
	if rows := params / 20 / width; rows > 0 {
		ts = append(ts, f32("embed.weight", 5*rows, width))
		for i := range layers {
			name := fmt.Sprintf("layer.%02d.", i)
			ts = append(ts, f32(name+"weight", rows, width), f32(name+"bias", rows))
		}
		left -= 5*rows*width + layers*rows*(width+1)
	}
	return append(ts, f32("head", left))
}

// fill returns a canonical file of random values.
func fill(layout *model.Layout, source rand.Source) []byte {
	file := make([]byte, layout.Size())
	r := rand.New(source)
	for p := file[copy(file, layout.Header()):]; len(p) > 0; p = p[4:] {
		binary.LittleEndian.PutUint32(p, math.Float32bits(float32(r.NormFloat64()*0.05)))
	}
	return file
}
