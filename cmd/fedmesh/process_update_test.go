package main_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"math/big"
	"math/rand/v2"

	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/model"
)

const (
	floats   = 1000
	counters = 16
)

// small is a model of a few float32 and int64 numbers, as rationals: sums of them
// have no rounding.
type small struct {
	floats, counters []*big.Rat
}

// smallLayout has the counters first: larger types come first in canonical order.
func smallLayout() (*model.Layout, error) {
	return model.NewLayout([]model.Tensor{
		{Name: "weights", DType: model.F32, Shape: []int64{floats}},
		{Name: "steps", DType: model.I64, Shape: []int64{counters}},
	})
}

// drawUpdate makes the update of a combiner from nothing but its key, so that it
// can be made again when it is to be checked. All its values are integers.
func drawUpdate(seed uint64, combiner, id string) (small, int64) {
	h := fnv.New64a()
	h.Write([]byte(combiner + "/" + id))
	r := rand.New(rand.NewPCG(seed, h.Sum64()))
	var m small
	for range floats {
		m.floats = append(m.floats, big.NewRat(r.Int64N(2001)-1000, 1))
	}
	for range counters {
		m.counters = append(m.counters, big.NewRat(r.Int64N(1<<53)-1<<52, 1))
	}
	return m, 1 + r.Int64N(1000)
}

func (m small) encode(l *model.Layout) []byte {
	b := bytes.Clone(l.Header())
	for _, c := range m.counters {
		b = binary.LittleEndian.AppendUint64(b, uint64(roundInt(c)))
	}
	for _, f := range m.floats {
		x, _ := f.Float32()
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
	}
	return b
}

func decodeSmall(l *model.Layout, b []byte) (small, error) {
	var m small
	data, ok := bytes.CutPrefix(b, l.Header())
	if !ok || len(data) != 8*counters+4*floats {
		return m, errors.New("a model of another layout")
	}
	for i := range counters {
		m.counters = append(m.counters, new(big.Rat).SetInt64(int64(binary.LittleEndian.Uint64(data[8*i:]))))
	}
	data = data[8*counters:]
	for i := range floats {
		x := math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
		f := new(big.Rat).SetFloat64(float64(x))
		if f == nil {
			return m, fmt.Errorf("weight %d is %v", i, x)
		}
		m.floats = append(m.floats, f)
	}
	return m, nil
}

// roundInt rounds to the nearest integer, ties to even.
func roundInt(r *big.Rat) int64 {
	twice := new(big.Int).Lsh(r.Num(), 1)
	twice.Add(twice, r.Denom())
	den := new(big.Int).Lsh(r.Denom(), 1)
	q, rest := new(big.Int).DivMod(twice, den, new(big.Int)) // floor(r + 1/2)
	if rest.Sign() == 0 && q.Bit(0) == 1 {
		q.Sub(q, big.NewInt(1))
	}
	return q.Int64()
}

// expect computes what the model of a round must be: the mean of the updates,
// each moved by what the model has moved since its base,
//
//	( Σ w·x + Σ w·(previous − base) ) / Σ w
//
// which is the plain mean when all started from the previous model.
func expect(seed uint64, round api.RoundInfo, previous string, models func(digest string) (small, error)) (want small, plain bool, err error) {
	for range floats {
		want.floats = append(want.floats, new(big.Rat))
	}
	for range counters {
		want.counters = append(want.counters, new(big.Rat))
	}
	plain = true
	total := new(big.Rat)
	for _, u := range round.Updates {
		x, w := drawUpdate(seed, u.Combiner, u.ID)
		if w != u.Weight {
			return want, plain, fmt.Errorf("%s/%s has weight %d in round %d, and was pushed with %d", u.Combiner, u.ID, u.Weight, round.Round, w)
		}
		weight := new(big.Rat).SetInt64(w)
		total.Add(total, weight)
		add(want, x, weight)
		if u.Base == previous {
			continue
		}
		plain = false
		before, err := models(previous)
		if err != nil {
			return want, plain, err
		}
		base, err := models(u.Base)
		if err != nil {
			return want, plain, err
		}
		add(want, before, weight)
		add(want, base, new(big.Rat).Neg(weight))
	}
	for _, part := range [][]*big.Rat{want.floats, want.counters} {
		for _, x := range part {
			x.Quo(x, total)
		}
	}
	return want, plain, nil
}

// diff names the first number that differs; it is empty when none does.
func (m small) diff(want small) string {
	for i, w := range want.counters {
		if r := roundInt(w); m.counters[i].Cmp(new(big.Rat).SetInt64(r)) != 0 {
			return fmt.Sprintf("steps[%d] is %s, want %s = %d", i, m.counters[i].RatString(), w.FloatString(3), r)
		}
	}
	for i, w := range want.floats {
		got, _ := m.floats[i].Float32()
		if x, _ := w.Float32(); got != x {
			return fmt.Sprintf("weights[%d] is %v, want %s rounded to %v", i, got, w.FloatString(12), x)
		}
	}
	return ""
}

// add adds weight times x to sum.
func add(sum, x small, weight *big.Rat) {
	var p big.Rat
	for i, v := range x.floats {
		sum.floats[i].Add(sum.floats[i], p.Mul(v, weight))
	}
	for i, v := range x.counters {
		sum.counters[i].Add(sum.counters[i], p.Mul(v, weight))
	}
}
