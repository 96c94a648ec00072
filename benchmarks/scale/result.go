package main

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/fedmesh/fedmesh/benchmarks/figures"
)

// What fedmesh is held to.
const (
	roundTimes   = 2.0   // a small session's round, among others, beside alone
	residentMost = 400e6 // bytes of a peer, whatever is pushed to it
	growthMost   = 1.25  // a peer's memory at most in the second half of the rounds beside the first, bursts left out
)

// Report is what one command measured, and on what.
type Report struct {
	Command  string         `json:"command"`
	Fedmesh  string         `json:"fedmesh"`
	Go       string         `json:"go"`
	Platform string         `json:"platform"`
	CPU      string         `json:"cpu"`
	Cores    int            `json:"cores"`
	LoadAvg  string         `json:"-"`
	Loads    []string       `json:"load_averages"` // before each claim
	Seed     uint64         `json:"seed"`
	Train    float64        `json:"train"` // seconds
	Quick    bool           `json:"quick"`
	Sessions *Sessions      `json:"sessions,omitempty"`
	Crowd    *Crowd         `json:"combiners,omitempty"`
	Peers    *Peers         `json:"peers,omitempty"`
	Limits   figures.Limits `json:"limits"`

	byClaim map[string]figures.Limits
}

// judge fills in the limits.
func (r *Report) judge() {
	r.byClaim = map[string]figures.Limits{}
	if r.Sessions != nil {
		r.byClaim[claimSessions] = r.Sessions.limits()
	}
	if r.Crowd != nil {
		r.byClaim[claimCombiners] = r.Crowd.limits()
	}
	if r.Peers != nil {
		r.byClaim[claimPeers] = r.Peers.limits()
	}
	r.Limits = slices.Concat(r.byClaim[claimSessions], r.byClaim[claimCombiners], r.byClaim[claimPeers])
}

// fail is what the command ends with: limits only when they are to be checked,
// what must never be in any case.
func (r *Report) fail(check bool) error {
	var err error
	if check {
		err = r.Limits.Broken("scale")
	}
	if r.bad() {
		err = errors.Join(err, errors.New("scale: something is lost, doubled, altered, divergent or wrong, or a peer has fallen: see the table"))
	}
	return err
}

func (r *Report) bad() bool {
	if s := r.Sessions; s != nil && (s.Verdict.bad() || len(s.BadAnswers)+len(s.Fallen) > 0) {
		return true
	}
	if c := r.Crowd; c != nil {
		for _, t := range []Throng{c.Few, c.Many} {
			if t.Verdict.bad() || len(t.Fallen) > 0 {
				return true
			}
		}
		if o := c.Overload; o != nil && (o.Verdict.bad() || len(o.Fallen) > 0) {
			return true
		}
	}
	return r.Peers != nil && (r.Peers.Verdict.bad() || len(r.Peers.Fallen) > 0)
}

// never adds the limits that hold for every run.
func never(l *figures.Limits, v Verdict, fallen, errors500 int) {
	l.Add("updates lost, doubled or altered", "0", v.Lost+v.Doubled+v.Altered == 0 && v.Counted == v.Acknowledged,
		"%d of %d", v.Lost+v.Doubled+v.Altered, v.Acknowledged)
	l.Add("rounds divergent, or not the exact mean", "0", v.Divergent+v.Wrong+v.Unknown == 0 && v.Means == v.Rounds,
		"%d of %d", v.Divergent+v.Wrong+v.Unknown, v.Rounds)
	l.Add("sessions on which all peers do not agree in the end", "0", v.Disagree == 0, "%d of %d", v.Disagree, v.Sessions)
	l.Zero("combiners that could not go on", v.Failed)
	l.Zero("peers that fell over, answers with status 500", fallen+errors500)
}

func (s *Sessions) limits() (l figures.Limits) {
	never(&l, s.Verdict, len(s.Fallen), s.ServerErrors)
	n := 0
	for _, k := range s.BadPushes {
		n += k
	}
	l.Add("bad pushes that were taken, or refused for another reason", "0", len(s.BadAnswers) == 0 && n > 0, "%d of %d", len(s.BadAnswers), len(s.BadAnswers)+n)
	alone, among, others := median(s.Alone.Laps, Lap.Round), median(s.Among.Laps, Lap.Round), median(s.Others.Laps, Lap.Round)
	l.Add("a small session's round among others beside alone, median", atMost(roundTimes), among/alone <= roundTimes, "%.2f times", among/alone)
	l.Add("the rounds of all other small sessions beside that, median", atMost(roundTimes), others/alone <= roundTimes, "%.2f times", others/alone)
	return l
}

func atMost(times float64) string { return fmt.Sprintf("at most %.4g times", times) }

func (c *Crowd) limits() (l figures.Limits) {
	for _, t := range []Throng{c.Few, c.Many} {
		var own figures.Limits
		never(&own, t.Verdict, len(t.Fallen), t.ServerErrors)
		peak := t.Peak()
		own.Add("resident memory of a peer at most", "below "+figures.Size(residentMost), known(peak) < residentMost, "%s", figures.Size(known(peak)))
		g := t.growth()
		own.Add("the same in the second half of the rounds beside the first", atMost(growthMost), g <= growthMost, "%.2f times", g)
		l = append(l, prefixed(fmt.Sprintf("%d combiners: ", t.Combiners), own)...)
	}
	if o := c.Overload; o != nil {
		var own figures.Limits
		never(&own, o.Verdict, len(o.Fallen), o.Failed)
		busy, others := o.refusals()
		own.Add("tries with another end than a receipt, 503 or 429", "0", others+o.Broken == 0, "%d", others+o.Broken)
		own.Zero("refusals without Retry-After", o.NoRetry)
		if o.Pushes > turns*o.MaxUploads && o.MaxUploads > 0 {
			own.Add("refusals", "some", busy > 0, "%d", busy)
		}
		own.Add("resident memory of a peer at most", "below "+figures.Size(residentMost), known(o.Resident) < residentMost, "%s", figures.Size(known(o.Resident)))
		l = append(l, prefixed("overload: ", own)...)
	}
	return l
}

// known makes a figure that is not known a NaN, which keeps no limit.
func known(n int64) float64 {
	if n == 0 {
		return math.NaN()
	}
	return float64(n)
}

func prefixed(with string, l figures.Limits) figures.Limits {
	for i := range l {
		l[i].What = with + l[i].What
	}
	return l
}

// growth is the most memory in the second half of the rounds without bursts as a
// multiple of that in the first.
func (t Throng) growth() float64 {
	var apart []CrowdRound
	for _, r := range t.Rounds {
		if !r.Burst {
			apart = append(apart, r)
		}
	}
	half := (len(apart) + 1) / 2
	first, second := Throng{Rounds: apart[:half]}, Throng{Rounds: apart[half:]}
	return known(second.Peak()) / known(first.Peak())
}

func (p *Peers) limits() (l figures.Limits) {
	never(&l, p.Verdict, len(p.Fallen), 0)
	l.Add("all peers see all", "yes", p.Seen > 0, "%t", p.Seen > 0)
	l.Add("rounds after the kill", fmt.Sprintf("at least %d", p.Rounds), p.After.Rounds >= p.Rounds, "%d", p.After.Rounds)
	l.Add("those that lived come to one later model", "yes", p.Agreed > 0, "%t", p.Agreed > 0)
	l.Add("all come to one later model when the others are back", "yes", p.AllAgree > 0, "%t", p.AllAgree > 0)
	return l
}

// times are one figure of laps, in ascending order.
func times(laps []Lap, of func(Lap) float64) (out []float64) {
	for _, l := range laps {
		out = append(out, of(l))
	}
	slices.Sort(out)
	return out
}

func median(laps []Lap, of func(Lap) float64) float64 { return figures.Median(times(laps, of)) }
