package aggregate

import "math"

func fedYogiInfo() Info {
	return Info{
		Name:    "fedyogi",
		Summary: "Yogi on the mean of the steps: second moments change by no more than a share of the new square",
		Paper:   reddi,
		Params:  adaptiveParams("0.01", "0.9", "0.99"),
	}
}

// newFedYogi returns
//
//	m_t = β1·m_{t-1} + (1-β1)·Δ_t
//	v_t = v_{t-1} - (1-β2)·Δ_t²·sign(v_{t-1} - Δ_t²)
//	x_t = x_{t-1} + η·m_t/(√v_t + τ)
func newFedYogi(a args) (Strategy, error) {
	s, err := newSummed(fedYogiInfo(), a)
	eta, beta1, beta2, tau := a.numbers["eta"], a.numbers["beta_1"], a.numbers["beta_2"], a.numbers["tau"]
	step := func(x, d, m, v float64) (float64, float64, float64) {
		m = float64(beta1*m) + float64((1-beta1)*d)
		square := float64(d * d)
		change := float64((1 - beta2) * square)
		switch {
		case v > square:
			v -= change
		case v < square:
			v += change
		}
		return x + float64(eta*m)/(math.Sqrt(v)+tau), m, v
	}
	return optimizing{summed: s, opt: optimizer{second: true, initial: a.numbers["initial_v"], begin: func(int64) update { return step }}}, err
}
