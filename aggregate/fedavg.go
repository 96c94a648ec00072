package aggregate

func fedAvgInfo() Info {
	return Info{
		Name:    "fedavg",
		Summary: "weighted mean of the updates; stale ones count as steps from their own base",
		Paper:   "McMahan et al., Communication-efficient learning of deep networks from decentralized data, AISTATS 2017, algorithm 1",
		Params:  summedParams(),
	}
}

// newFedAvg returns federated averaging, algorithm 1 of the paper, with steps from older models.
//
// An update x_c of weight w, trained from the model M, stands for the step x_c - M. The next model is the previous one and
// the weighted mean of the steps:
//
//	x_r = x_{r-1} + Σ w·(x_c - M) / Σ w = ( Σ w·x_c + Σ_b W_b·(x_{r-1} - M_b) ) / Σ w
//
// where b goes through the models other than x_{r-1} that updates were trained from, and W_b is the weight of those. It is exact
// up to the one division, and when all were trained from x_{r-1} it is the weighted mean of the updates.
func newFedAvg(a args) (Strategy, error) {
	s, err := newSummed(fedAvgInfo(), a)
	return averaging{s}, err
}
