package learn

import (
	"errors"
	"fmt"
	"math/rand/v2"

	"gonum.org/v1/gonum/stat/distmv"
)

// minExamples is the least that a client may get: a split with a poorer client
// is drawn again.
const minExamples = 32

// Split divides the examples of a set among clients so that each class is
// spread over them in proportions drawn from a symmetric Dirichlet distribution
// (Hsu, Qi and Brown 2019): the smaller alpha, the less alike the clients. It
// returns each client's indices; every example has one owner.
func Split(set Examples, clients int, alpha float64, seed uint64) ([][]int, error) {
	if clients < 1 || !(alpha > 0) {
		return nil, fmt.Errorf("learn: cannot split among %d clients with alpha %v", clients, alpha)
	}
	if set.Len() < clients*minExamples {
		return nil, fmt.Errorf("learn: %d examples are too few for %d clients of %d or more", set.Len(), clients, minExamples)
	}
	source := rand.NewPCG(seed, streamSplit)
	for range 1000 {
		parts := draw(set, clients, alpha, source)
		smallest := set.Len()
		for _, p := range parts {
			smallest = min(smallest, len(p))
		}
		if smallest >= minExamples {
			return parts, nil
		}
	}
	return nil, errors.New("learn: no split gave each client enough examples; use fewer clients or a larger alpha")
}

func draw(set Examples, clients int, alpha float64, source *rand.PCG) [][]int {
	r := rand.New(source)
	var classes [][]int
	for i := range set.Len() {
		label := set.Label(i)
		for label >= len(classes) {
			classes = append(classes, nil)
		}
		classes[label] = append(classes[label], i)
	}
	parts := make([][]int, clients)
	if clients == 1 {
		for _, members := range classes {
			parts[0] = append(parts[0], members...)
		}
		return parts
	}
	alphas := make([]float64, clients)
	for i := range alphas {
		alphas[i] = alpha
	}
	spread := distmv.NewDirichlet(alphas, source)
	for _, members := range classes {
		r.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
		shares := spread.Rand(nil)
		from, sum := 0, 0.0
		for c, share := range shares {
			sum += share
			to := int(sum * float64(len(members)))
			if c == clients-1 {
				to = len(members)
			}
			to = min(max(to, from), len(members))
			parts[c] = append(parts[c], members[from:to]...)
			from = to
		}
	}
	return parts
}
