package main

import (
	"fmt"
	"strconv"

	"github.com/fedmesh/fedmesh/benchmarks/figures"
	"github.com/fedmesh/fedmesh/benchmarks/svg"
)

func plain(x float64) string { return strconv.FormatFloat(x, 'g', 4, 64) }

// picture draws a claim.
func (r *Report) picture(claim string) []byte {
	switch claim {
	case claimSessions:
		return r.Sessions.draw(r.Train)
	case claimCombiners:
		return r.Crowd.draw()
	}
	return r.Peers.draw()
}

// draw draws which share of the rounds took longer than a time.
func (s *Sessions) draw(train float64) []byte {
	names := []string{"alone", "among", "others"}
	p := svg.New("What a round takes, training left out",
		fmt.Sprintf("one session alone, the same among %d, and all other small ones then; training takes %s", s.Sessions, figures.Seconds(train)), 300, 64, names...)
	all := [][]float64{times(s.Alone.Laps, Lap.Mesh), times(s.Among.Laps, Lap.Mesh), times(s.Others.Laps, Lap.Mesh)}
	xs, ys := svg.Scale{Low: 0.01, High: 0.1, Log: true, Size: svg.Wide}, svg.Scale{Low: 0.1, High: 1, Log: true, Size: p.Height}
	for _, l := range all {
		for len(l) > 0 && l[len(l)-1] > xs.High {
			xs.High *= 10
		}
		for len(l) > 0 && 1/float64(len(l)) < ys.Low {
			ys.Low /= 10
		}
	}
	p.Up(ys, "share of rounds that took longer", func(y float64) string { return plain(100*y) + "%" })
	p.Along(xs, "from the end of a combiner's training until it has the next model", figures.Seconds)
	for i, l := range all {
		if len(l) == 0 {
			continue
		}
		points := [][2]float64{{0, ys.At(1)}}
		for n, t := range l {
			points = append(points, [2]float64{xs.At(t), ys.At(1 - float64(n)/float64(len(l)))})
			if n < len(l)-1 {
				points = append(points, [2]float64{xs.At(t), ys.At(1 - float64(n+1)/float64(len(l)))})
			} else {
				points = append(points, [2]float64{xs.At(t), 0})
			}
		}
		p.Line(names[i], points)
		p.Key(i, names[i], "p50 "+figures.Seconds(figures.Quantile(l, 0.5)))
	}
	return p.Done()
}

// draw draws the peers' memory over time.
func (c *Crowd) draw() []byte {
	type line struct {
		name, about string
		samples     []Sample
	}
	lines := []line{
		{"few", fmt.Sprintf("%d combiners", c.Few.Combiners), c.Few.Samples},
		{"many", fmt.Sprintf("%d combiners", c.Many.Combiners), c.Many.Samples},
	}
	if o := c.Overload; o != nil {
		lines = append(lines, line{"overload", fmt.Sprintf("%d × %s", o.Pushes, figures.Size(4*float64(o.Params))), o.Samples})
	}
	var names []string
	for _, l := range lines {
		names = append(names, l.name)
	}
	p := svg.New("Memory of peers", fmt.Sprintf("resident, of the peer that has most of %d; models of %s, in the overload larger ones to one peer", crowdPeers, figures.Size(4*float64(c.Params))), 300, 64, names...)
	xs, ys := svg.Scale{High: 1, Size: svg.Wide}, svg.Scale{High: 1, Size: p.Height}
	for _, l := range lines {
		for _, x := range l.samples {
			xs.High, ys.High = max(xs.High, x.At-l.samples[0].At), max(ys.High, float64(x.Resident)/1e6)
		}
	}
	p.Up(ys, "MB", plain)
	p.Along(xs, "seconds", plain)
	for i, l := range lines {
		var points [][2]float64
		for _, x := range l.samples {
			points = append(points, [2]float64{xs.At(x.At - l.samples[0].At), ys.At(float64(x.Resident) / 1e6)})
		}
		if len(points) > 0 {
			p.Line(l.name, points)
		}
		p.Key(i, l.name, l.about)
	}
	return p.Done()
}

// draw draws a dot for each peer: the bytes per second of its gossip.
func (p *Peers) draw() []byte {
	const row = 44
	kinds := []string{"sent", "received"}
	rows := []struct {
		name string
		kind int
		v    []float64
	}{
		{"idle", 0, p.Idle.Sent},
		{"", 1, p.Idle.Received},
		{"training", 0, p.Training.Sent},
		{"", 1, p.Training.Received},
		{"after", 0, p.After.Sent},
		{"the kill", 1, p.After.Received},
	}
	pic := svg.New("Gossip of a peer", fmt.Sprintf("%d peers, a dot for each; %d of them were killed", p.Peers, len(p.Killed)), row*len(rows), 64, kinds...)
	xs := svg.Scale{High: 0.1, Size: svg.Wide}
	for _, r := range rows {
		if len(r.v) > 0 {
			xs.High = max(xs.High, 1.05*r.v[len(r.v)-1]/1e3)
		}
	}
	pic.Along(xs, "kB per second; the line is the median", plain)
	for i, r := range rows {
		y := float64(svg.Top + row*i + row/2)
		pic.Text("head num", svg.Left-9, y+4, r.name)
		var dots []string
		for n, x := range r.v {
			dots = append(dots, fmt.Sprintf(`<circle class="dot f%s" cx="%.1f" cy="%.1f" r="4"/>`, kinds[r.kind], svg.Left+xs.At(x/1e3), y+float64(n%5-2)*4))
		}
		pic.Marks(dots)
		if len(r.v) == 0 {
			continue
		}
		at := figures.Median(r.v)
		pic.Printf(`<path class="line %s" d="M%.1f %.1fv28"/>`+"\n", kinds[r.kind], svg.Left+xs.At(at/1e3), y-14)
		pic.Text("", svg.KeyLeft, y+4, kinds[r.kind]+" "+figures.Size(at)+"/s")
	}
	return pic.Done()
}
