package aggregate_test

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/fedmesh/fedmesh/aggregate"
	"github.com/fedmesh/fedmesh/model"
)

// TestDigests pins the bits of a mean and of an encoded sum over every dtype: they are the same on every architecture, with assembly and
// without.
func TestDigests(t *testing.T) {
	l := mixed(t)
	s := mustSpec(t, l, nil)
	r := rand.New(rand.NewPCG(41, 41))
	var terms []aggregate.Term
	var total int64
	for j := range 7 {
		w := int64(1 + j*j*1_000_003)
		total += w
		terms = append(terms, aggregate.Term{Source: reader(randomFile(l, r)), Weight: w})
	}
	var sum bytes.Buffer
	if err := s.Partial(t.Context(), nil, 0, s.Elements(), terms, &sum); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, want string
		got        []byte
	}{
		{"mean", "4f3292d1f54e4a9ec2f41bfffb9fff7543cff894ffbd7c04f6aac7350a6d989c", meanOf(t, s, terms, total)},
		{"sum", "0cd26a8b3c19807fd62c4fb871fb5439025d0c1e2166a343ec844238ce112768", sum.Bytes()},
	} {
		if got := model.Sum(c.got).String(); got != c.want {
			t.Errorf("%s: digest %s, want %s", c.name, got, c.want)
		}
	}
}
