package aggregate_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
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

// TestStrategyDigests pins the bits of model and state of every strategy, over every dtype and from several bases.
func TestStrategyDigests(t *testing.T) {
	l := mixed(t)
	rnd := rand.New(rand.NewPCG(43, 43))
	files := map[model.Digest][]byte{}
	random := func() aggregate.Model {
		f := randomFile(l, rnd)
		files[model.Sum(f)] = f
		return stored(f)
	}
	old := random()
	r := aggregate.Round{
		Spec: mustSpec(t, l, nil), Number: 3, Inputs: model.Sum([]byte("inputs")), Prev: random(), Secret: secret,
		Base: func(d model.Digest) (io.ReaderAt, error) { return reader(files[d]), nil },
	}
	for i := range 9 {
		u := aggregate.Update{Weight: 1 + rnd.Int64N(1000), Base: r.Prev.Digest, BaseRound: 2, Name: fmt.Sprint(i), Source: random().Source}
		if i%3 == 0 {
			u.Base, u.BaseRound = old.Digest, 1
		}
		r.Updates = append(r.Updates, u)
	}
	for _, c := range []struct {
		params string
		want   string // the first 16 digits
	}{
		{"fedavg", "f254fcd3a0aea51f"},
		{"fedavg staleness polynomial", "037f2a189088c6d7"},
		{"fedavg clip_norm 2 staleness polynomial", "05253223456b1b9f"},
		{"fedavg clip_norm 2 dp_noise_multiplier 1", "5761afde5e65c6dc"},
		{"fedavgm server_momentum 0.9", "3229b4ef341bf1a0"},
		{"fedadam", "7295a505599067bb"},
		{"fedyogi", "ba17033389cec95f"},
		{"fedadagrad", "1cc303bcd4ac3684"},
		{"fedmedian", "cbb1170a64936202"},
		{"fedtrimmedavg", "2e380e034133033f"},
		{"krum num_malicious_clients 2", "7f95369ff9bd37cb"},
		{"multikrum num_malicious_clients 2", "0bd9f4477444cfb3"},
		{"bulyan num_malicious_clients 1", "73d1bf77779aedd0"},
		{"geomedian", "e9a91bb035182d98"},
	} {
		words := strings.Fields(c.params)
		s, r := lookup(t, words[0], words[1:]...), r
		out, state, _ := run(t, s, r, 20000, 33001)
		if state != nil { // what was 0 before is not any more
			r.State = stored(state)
			out, state, _ = run(t, s, r, 20000, 33001)
		}
		if got := sum(out, state).String()[:16]; got != c.want {
			t.Errorf("%s: digest %s, want %s", c.params, got, c.want)
		}
	}
}
