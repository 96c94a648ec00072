package aggregate

import "math"

func fedAdagradInfo() Info {
	return Info{
		Name:    "fedadagrad",
		Summary: "Adagrad on the mean of the steps",
		Paper:   reddi,
		Params:  adaptiveParams("0.1", "0", ""),
	}
}

// newFedAdagrad returns
//
//	m_t = β1·m_{t-1} + (1-β1)·Δ_t
//	v_t = v_{t-1} + Δ_t²
//	x_t = x_{t-1} + η·m_t/(√v_t + τ)
func newFedAdagrad(a args) (Strategy, error) {
	s, err := newSummed(fedAdagradInfo(), a)
	eta, beta1, tau := a.numbers["eta"], a.numbers["beta_1"], a.numbers["tau"]
	step := func(x, d, m, v float64) (float64, float64, float64) {
		m = float64(beta1*m) + float64((1-beta1)*d)
		v += float64(d * d)
		return x + float64(eta*m)/(math.Sqrt(v)+tau), m, v
	}
	return optimizing{summed: s, opt: optimizer{second: true, initial: a.numbers["initial_v"], begin: func(int64) update { return step }}}, err
}
