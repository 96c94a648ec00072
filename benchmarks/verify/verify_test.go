package verify_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strconv"
	"testing"
	"testing/iotest"

	"github.com/fedmesh/fedmesh/aggregate"
	"github.com/fedmesh/fedmesh/benchmarks/kill/reducer"
	"github.com/fedmesh/fedmesh/benchmarks/load"
	"github.com/fedmesh/fedmesh/benchmarks/verify"
	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/model"
)

func newLoad(t *testing.T, params int64, updates int) *load.Load {
	t.Helper()
	l, err := load.New(t.Context(), load.Options{Params: params, Updates: updates, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func train(t *testing.T, l *load.Load, base []byte, combiner, step int) *verify.Update {
	t.Helper()
	u, err := verify.Train(l, base, combiner, step)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestTrain(t *testing.T) {
	l := newLoad(t, 100, 2)
	a := train(t, l, l.Seed, 0, 1).Append(nil)
	if !bytes.Equal(a, train(t, l, l.Seed, 0, 1).Append(nil)) {
		t.Error("the same step gave another update")
	}
	seen := [][]byte{l.Seed, a}
	for _, c := range []struct {
		base           []byte
		combiner, step int
	}{{l.Seed, 1, 1}, {l.Seed, 0, 2}, {a, 0, 1}, {l.Seed, 2, 1}, {l.Seed, 5, 1}} {
		u := train(t, l, c.base, c.combiner, c.step).Append(nil)
		if slices.ContainsFunc(seen, func(b []byte) bool { return bytes.Equal(b, u) }) {
			t.Errorf("combiner %d, step %d: seen before", c.combiner, c.step)
		}
		seen = append(seen, u)
	}
	if _, err := verify.Train(l, l.Seed[:len(l.Seed)/2], 0, 1); err == nil {
		t.Error("half a model was trained")
	}
	if verify.Weight(l, 1) != l.Weights[1] || verify.Weight(l, 5) != l.Weights[1] {
		t.Error("weights")
	}
}

func TestNames(t *testing.T) {
	for i := range 2 {
		if got, err := verify.Index(verify.Name(i), 2); err != nil || got != i {
			t.Errorf("combiner %d is %d, %v", i, got, err)
		}
	}
	for _, name := range []string{"", "c002", "x001", "c1", "c-01"} {
		if _, err := verify.Index(name, 2); err == nil {
			t.Errorf("%q was taken for a combiner", name)
		}
	}
}

// However an update is read, it is the same.
func TestUpdateIsRead(t *testing.T) {
	l := newLoad(t, 101, 2)
	u := train(t, l, l.Seed, 1, 3)
	want := u.Append(nil)
	body, n, err := u.Body()
	if err != nil || n != int64(len(want)) {
		t.Fatal(n, err)
	}
	if err := iotest.TestReader(body, want); err != nil {
		t.Error(err)
	}
	for from := range want {
		for _, size := range []int{1, 3, 6, 64} {
			p := make([]byte, min(size, len(want)-from))
			if _, err := u.ReadAt(p, int64(from)); err != nil || !bytes.Equal(p, want[from:from+len(p)]) {
				t.Fatalf("%d bytes from %d: %v", len(p), from, err)
			}
		}
	}
	if d, err := u.Digest(); err != nil || d != model.Sum(want) {
		t.Error(d, err)
	}
}

// A model that is not the mean of what its round is said to contain is found, and
// so is an update that was not pushed so.
func TestWrongMeanIsFound(t *testing.T) {
	l := newLoad(t, 100, 2)
	rounds, models := madeRounds(t, l)
	for name, c := range map[string]struct {
		spoil func(r []api.RoundInfo)
		wrong []uint64
	}{
		"nothing":     {spoil: func([]api.RoundInfo) {}, wrong: []uint64{}},
		"other model": {spoil: func(r []api.RoundInfo) { r[1].Model = r[0].Model }, wrong: []uint64{2}},
		"other bytes": {spoil: func(r []api.RoundInfo) { r[0].Updates[1].Digest = r[0].Updates[0].Digest }, wrong: []uint64{1}},
		"other step":  {spoil: func(r []api.RoundInfo) { r[1].Updates[0].ID = "7" }, wrong: []uint64{2}},
		"no step":     {spoil: func(r []api.RoundInfo) { r[1].Updates[0].ID = "-7" }, wrong: []uint64{2}},
		"a stranger":  {spoil: func(r []api.RoundInfo) { r[1].Updates[0].Combiner = "c017" }, wrong: []uint64{2}},
	} {
		own := slices.Clone(rounds)
		for i := range own {
			own[i].Updates = slices.Clone(own[i].Updates)
		}
		c.spoil(own)
		ch := checkerOf(t, l, models)
		if err := ch.Take(t.Context(), own); err != nil {
			t.Fatal(err)
		}
		if m := ch.Means(); !slices.Equal(m.Wrong, c.wrong) || m.Checked != 2-len(c.wrong) {
			t.Errorf("%s: %+v", name, m)
		}
	}
	ch := checkerOf(t, l, models)
	if err := ch.Take(t.Context(), rounds[1:]); err == nil {
		t.Error("a round that is missing was not missed")
	}
	ch = checkerOf(t, l, map[string][]byte{})
	if err := ch.Take(t.Context(), rounds); err != nil || !slices.Equal(ch.Means().Unknown, []uint64{2}) || ch.Next() != 3 {
		t.Errorf("%+v, %v", ch.Means(), err)
	}
}

// checkerOf checks the rounds of a load whose models are all there.
func checkerOf(t *testing.T, l *load.Load, models map[string][]byte) *verify.Checker {
	t.Helper()
	c, err := verify.New(l, 2, 1, func(_ context.Context, digest string) ([]byte, error) {
		if b, ok := models[digest]; ok {
			return b, nil
		}
		return nil, errors.New("no such model")
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// madeRounds are two rounds of two combiners as they should be, and their models.
func madeRounds(t *testing.T, l *load.Load) ([]api.RoundInfo, map[string][]byte) {
	t.Helper()
	spec, err := reducer.SpecOf(bytes.NewReader(l.Seed), int64(len(l.Seed)))
	if err != nil {
		t.Fatal(err)
	}
	base, models, rounds := l.Seed, map[string][]byte{}, []api.RoundInfo(nil)
	for n := 1; n <= 2; n++ {
		round := aggregate.Round{Spec: spec, Number: uint64(n), Prev: aggregate.Model{Digest: model.Sum(base), Source: bytes.NewReader(base)}}
		info := api.RoundInfo{Round: uint64(n), State: api.RoundFinal}
		for i := range 2 {
			u := train(t, l, base, i, n).Append(nil)
			round.Updates = append(round.Updates, aggregate.Update{
				Weight: l.Weights[i], Base: round.Prev.Digest, BaseRound: uint64(n - 1), Name: verify.Name(i), Source: bytes.NewReader(u),
			})
			info.Updates = append(info.Updates, api.UpdateInfo{
				Combiner: verify.Name(i), ID: strconv.Itoa(n), Digest: model.Sum(u).String(), Weight: l.Weights[i],
				Base: round.Prev.Digest.String(), BaseRound: uint64(n - 1),
			})
		}
		mean := make(file, spec.Layout().Size())
		if err := reducer.Mean(t.Context(), round, mean); err != nil {
			t.Fatal(err)
		}
		base = mean
		info.Model = model.Sum(base).String()
		models[info.Model] = base
		rounds = append(rounds, info)
	}
	return rounds, models
}

type file []byte

func (f file) WriteAt(p []byte, at int64) (int, error) { return copy(f[at:], p), nil }
