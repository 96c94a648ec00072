package aggregate

import (
	"math"
	"slices"
)

const reddi = "Reddi et al., Adaptive federated optimization, ICLR 2021, algorithm 2"

// adaptiveParams are the parameters of the optimizers of the paper, with the defaults that differ.
func adaptiveParams(eta, beta1, beta2 string, more ...Param) []Param {
	ps := []Param{
		param("eta", eta, rate(), "server learning rate (FEDn: learning_rate)"),
		param("beta_1", beta1, decay(), "decay of the first moment (FEDn: beta1)"),
	}
	if beta2 != "" {
		ps = append(ps, param("beta_2", beta2, decay(), "decay of the second moment (FEDn: beta2)"))
	}
	return slices.Concat(ps, []Param{
		param("tau", "0.001", positive(), "degree of adaptivity"),
		param("initial_v", "0", rule{max: 1e6}, "second moment before the first round; the paper and FEDn have tau^2, Flower 0"),
	}, more, summedParams())
}

func fedAdamInfo() Info {
	return Info{
		Name:    "fedadam",
		Summary: "Adam on the mean of the steps",
		Paper:   reddi,
		Params: adaptiveParams("0.1", "0.9", "0.99", param("bias_correction", "true", rule{words: []string{"true", "false"}},
			"correct the step for moments that begin at zero: Flower does, the paper and FEDn do not")),
	}
}

// newFedAdam returns, with the correction of Kingma and Ba (2015) as in Flower, whose rounds count from 1 and whose exponents from 2,
//
//	m_t = β1·m_{t-1} + (1-β1)·Δ_t
//	v_t = β2·v_{t-1} + (1-β2)·Δ_t²
//	x_t = x_{t-1} + η·√(1-β2^{t+1})/(1-β1^{t+1}) · m_t/(√v_t + τ)
//
// where t counts the rounds that had a model of their own.
func newFedAdam(a args) (Strategy, error) {
	s, err := newSummed(fedAdamInfo(), a)
	eta, beta1, beta2, tau := a.numbers["eta"], a.numbers["beta_1"], a.numbers["beta_2"], a.numbers["tau"]
	correct := a.words["bias_correction"] == "true"
	begin := func(t int64) update {
		rate := eta
		if correct {
			rate = float64(eta*math.Sqrt(1-power(beta2, t+1))) / (1 - power(beta1, t+1))
		}
		return func(x, d, m, v float64) (float64, float64, float64) {
			m = float64(beta1*m) + float64((1-beta1)*d)
			v = float64(beta2*v) + float64((1-beta2)*float64(d*d))
			return x + float64(rate*m)/(math.Sqrt(v)+tau), m, v
		}
	}
	return optimizing{summed: s, opt: optimizer{second: true, initial: a.numbers["initial_v"], begin: begin}}, err
}
