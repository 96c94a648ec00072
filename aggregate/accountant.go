package aggregate

import "math"

// Accountant adds up what published models tell of the updates in them, in zero-concentrated differential privacy: Bun and Steinke, "Concentrated
// differential privacy: simplifications, extensions, and lower bounds" (TCC 2016). The zero value has seen none.
//
// Every version of a model that leaves the mesh counts, the versions of an amended round too, whose noise is independent. What
// is protected is one combiner with all its updates, against all who see all versions and do not know the mesh's secret. As combiners are not
// chosen by secret chance, there is no amplification by sampling. Neighbours are as [Private] strategies have them: the combiner's steps become zero; that they be
// replaced by others takes twice the updates.
type Accountant struct {
	rho float64
}

// Publish counts a model with noise of a multiplier, see [Private], in which no combiner had more than so many updates. A model without noise, at multiplier 0,
// leaves no privacy. For the tightest figure keep one accountant for each combiner and give it that combiner's updates.
func (a *Accountant) Publish(multiplier float64, updates int) {
	if updates > 0 {
		ratio := float64(updates) / multiplier // of what the combiner's steps may be together to the noise's deviation
		a.rho += float64(ratio * ratio / 2)
	}
}

// Rho returns ρ of zero-concentrated differential privacy.
func (a *Accountant) Rho() float64 { return a.rho }

// Epsilon returns an ε such that the published models together are (ε, δ)-differentially private, 0 < δ < 1: the best of those that follow from Rényi
// differential privacy of many orders α by proposition 12 of Canonne, Kamath and Steinke (2020).
func (a *Accountant) Epsilon(delta float64) float64 {
	if a.rho == 0 {
		return 0
	}
	best := math.Inf(1)
	for i := -600; i <= 1200; i++ {
		above := math.Pow(10, float64(i)/100) // α - 1; any gives a true bound
		alpha := 1 + above
		best = min(best, float64(alpha*a.rho)-math.Log1p(1/above)-(math.Log(delta)+math.Log(alpha))/above)
	}
	return max(best, 0)
}
