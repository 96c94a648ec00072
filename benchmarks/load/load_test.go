package load_test

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/big"
	"testing"

	"github.com/fedmesh/fedmesh/benchmarks/load"
	"github.com/fedmesh/fedmesh/model"
)

func elements(ts []model.Tensor) (n int64) {
	for _, t := range ts {
		n += t.Elements()
	}
	return n
}

func TestTensorsHoldAllParameters(t *testing.T) {
	for _, n := range []int64{1, 511, 10_240, 10_241, 1_000_003, 25_000_000, 1 << 33} {
		ts := load.Tensors(n)
		if got := elements(ts); got != n {
			t.Errorf("%d parameters became %d", n, got)
		}
		if n > 20_000 && len(ts) < 10 {
			t.Errorf("%d parameters in %d tensors only", n, len(ts))
		}
		if _, err := model.NewLayout(ts); err != nil {
			t.Errorf("%d: %v", n, err)
		}
	}
}

func TestSeedDecidesTheBytes(t *testing.T) {
	make3 := func(seed uint64) *load.Load {
		l, err := load.New(t.Context(), load.Options{Params: 30_000, Updates: 3, Seed: seed})
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	a, b, c := make3(1), make3(1), make3(2)
	if !bytes.Equal(a.Seed, b.Seed) || !bytes.Equal(a.Updates[2], b.Updates[2]) {
		t.Error("one seed, two loads")
	}
	if bytes.Equal(a.Seed, c.Seed) || bytes.Equal(a.Updates[0], a.Updates[1]) || bytes.Equal(a.Seed, a.Updates[0]) {
		t.Error("models repeat")
	}
	if a.Bytes() != 3*a.Layout.Size() {
		t.Errorf("%d bytes", a.Bytes())
	}
}

// The mean is compared with one of rationals, rounded once.
func TestSum(t *testing.T) {
	const params = 70_000 // more than two blocks
	l, err := load.New(t.Context(), load.Options{Params: params, Updates: 4, Seed: 3})
	if err != nil {
		t.Fatal(err)
	}
	if l.Copy() <= 0 {
		t.Error("copying took no time")
	}
	took, digest, err := l.Sum(t.Context(), 2)
	if err != nil || took <= 0 {
		t.Fatal(took, err)
	}
	header := l.Layout.Header()
	want := bytes.Clone(header)
	for i := range params {
		at := len(header) + 4*i
		sum, total := new(big.Rat), int64(0)
		for j, u := range l.Updates {
			x := math.Float32frombits(binary.LittleEndian.Uint32(u[at:]))
			term := new(big.Rat).SetFloat64(float64(x))
			sum.Add(sum, term.Mul(term, new(big.Rat).SetInt64(l.Weights[j])))
			total += l.Weights[j]
		}
		mean, _ := sum.Quo(sum, new(big.Rat).SetInt64(total)).Float32()
		want = binary.LittleEndian.AppendUint32(want, math.Float32bits(mean))
	}
	if got := model.Sum(want); got != digest {
		t.Errorf("the mean is %s, want %s", digest.Short(), got.Short())
	}
	for _, workers := range []int{1, 3} {
		if _, again, err := l.Sum(t.Context(), workers); err != nil || again != digest {
			t.Errorf("with %d workers: %s, %v", workers, again.Short(), err)
		}
	}
}

func TestNothingToMake(t *testing.T) {
	for _, o := range []load.Options{{Params: 0, Updates: 1}, {Params: 1}} {
		if _, err := load.New(t.Context(), o); err == nil {
			t.Errorf("%+v was made", o)
		}
	}
}
