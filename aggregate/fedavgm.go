package aggregate

import "slices"

func fedAvgMInfo() Info {
	return Info{
		Name:    "fedavgm",
		Summary: "federated averaging with server momentum",
		Paper:   "Hsu, Qi and Brown, Measuring the effects of non-identical data distribution for federated visual classification, arXiv:1909.06335, 2019, FedAvgM",
		Params: slices.Concat([]Param{
			param("server_learning_rate", "1", rate(), "step size"),
			param("server_momentum", "0", decay(), "share of the last step in the next"),
		}, summedParams()),
	}
}

// newFedAvgM returns momentum on the pseudo-gradient, as in PyTorch's SGD and Flower's FedAvgM:
//
//	m_t = momentum·m_{t-1} + Δ_t
//	x_t = x_{t-1} + rate·m_t
//
// With momentum 0 and rate 1 that is [newFedAvg], exactly and without state.
func newFedAvgM(a args) (Strategy, error) {
	s, err := newSummed(fedAvgMInfo(), a)
	if err != nil {
		return nil, err
	}
	rate, momentum := a.numbers["server_learning_rate"], a.numbers["server_momentum"]
	if momentum == 0 && rate == 1 {
		return averaging{s}, nil
	}
	step := func(x, d, m, _ float64) (float64, float64, float64) {
		m = float64(momentum*m) + d
		return x + float64(rate*m), m, 0
	}
	return optimizing{summed: s, opt: optimizer{begin: func(int64) update { return step }}}, nil
}
