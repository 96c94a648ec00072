package report

import "slices"

// Report is all that was measured, and where.
type Report struct {
	Command   string `json:"command"`
	Fedmesh   string `json:"fedmesh"` // version
	Go        string `json:"go"`
	Platform  string `json:"platform"`
	CPU       string `json:"cpu"`
	Cores     int    `json:"cores"`
	LoadAvg   string `json:"load_average,omitempty"` // before the first run
	Params    int64  `json:"params"`
	Combiners int    `json:"combiners"`
	Bytes     int64  `json:"bytes"` // of all updates
	Workers   int    `json:"workers"`
	Seed      uint64 `json:"seed"`
	Fsync     string `json:"fsync"`
	Model     string `json:"model"` // digest that every peer came to
	Runs      []Run  `json:"runs"`
}

// Run is one round of one mesh, times in seconds from the first push.
type Run struct {
	Peers  int     `json:"peers"`
	Repeat int     `json:"repeat"`
	Acked  float64 `json:"acked"`  // until the last combiner has its receipt
	Sealed float64 `json:"sealed"` // until the first peer has closed the round
	First  float64 `json:"first"`  // until the first peer serves the model
	Served float64 `json:"served"` // until every peer serves it
	CPU    float64 `json:"cpu"`    // processor time of all peers together
	Peak   []int64 `json:"peak"`   // resident memory of each peer at most, bytes; empty where it cannot be known
	Copy   float64 `json:"copy"`   // just before: copying the bytes of all updates in memory
	Sum    float64 `json:"sum"`    // just before: their mean without files or network
}

// Sizes lists the sizes of the meshes, in order.
func (r *Report) Sizes() []int {
	var sizes []int
	for _, run := range r.Runs {
		sizes = append(sizes, run.Peers)
	}
	slices.Sort(sizes)
	return slices.Compact(sizes)
}

// Of summarises a value over the runs with so many peers; all runs for 0.
func (r *Report) Of(peers int, value func(Run) float64) Summary {
	var values []float64
	for _, run := range r.Runs {
		if peers == 0 || run.Peers == peers {
			values = append(values, value(run))
		}
	}
	return Summarise(values)
}

// Peak is the largest peak of resident memory of a peer in meshes of so many;
// 0 where it is not known.
func (r *Report) Peak(peers int) int64 {
	var peak int64
	for _, run := range r.Runs {
		if run.Peers == peers && len(run.Peak) > 0 {
			peak = max(peak, slices.Max(run.Peak))
		}
	}
	return peak
}

// phases are the parts of a round, one after the other.
var phases = []struct {
	name  string
	until func(Run) float64
}{
	{"all pushes acknowledged", func(r Run) float64 { return r.Acked }},
	{"round closed", func(r Run) float64 { return max(r.Sealed, r.Acked) }},
	{"first peer serves the model", func(r Run) float64 { return max(r.First, r.Sealed, r.Acked) }},
	{"every peer serves the model", func(r Run) float64 { return r.Served }},
}
