package main

import (
	"fmt"
	"strconv"

	"github.com/fedmesh/fedmesh/benchmarks/figures"
	"github.com/fedmesh/fedmesh/benchmarks/svg"
)

// series are what lines and marks are of.
var series = []string{sysMesh, sysRaft, sysSingle}

// pictures draws the run as SVG, by name.
func (r *Report) pictures() map[string][]byte {
	return map[string][]byte{"rounds": r.drawRounds(), "push": r.drawPushes(), "agreement": r.drawAgreement()}
}

// about is the line below a title.
func (r *Report) about() string {
	return fmt.Sprintf("%d combiners, %s float32 parameters. %s", r.Combiners, figures.Count(float64(r.Params)), r.plan())
}

func plain(x float64) string { return strconv.FormatFloat(x, 'g', 4, 64) }

// drawRounds draws the rounds finished over time, and below when processes were
// killed.
func (r *Report) drawRounds() []byte {
	const strip = 22
	title := "Rounds finished while processes are killed"
	if r.Partition {
		title = "Rounds finished while the network is cut in two"
	}
	p := svg.New(title, r.about(), 300, 64+strip*len(r.Systems)+34, series...)
	xs, ys := svg.Scale{High: 1, Size: svg.Wide}, svg.Scale{High: 1, Size: p.Height}
	for _, s := range r.Systems {
		xs.High, ys.High = max(xs.High, s.Seconds), max(ys.High, float64(len(s.Finished)))
	}
	p.Up(ys, "rounds", plain)
	p.Along(xs, "seconds", plain)
	for i, s := range r.Systems {
		points := [][2]float64{{0, 0}}
		for n, t := range s.Finished {
			points = append(points, [2]float64{xs.At(t), ys.At(float64(n))}, [2]float64{xs.At(t), ys.At(float64(n + 1))})
		}
		p.Line(s.System, points)
		p.Key(i, s.System, fmt.Sprintf("%d in %.0f s", len(s.Finished), s.Seconds))
		y := float64(svg.Top + p.Height + 64 + strip*i)
		p.Text("dim num", svg.Left-9, y+13, s.System)
		var kills []string
		for _, k := range s.Kills {
			kills = append(kills, fmt.Sprintf(`<path class="tick %s" d="M%.1f %.1fv14"/>`, s.System, svg.Left+xs.At(k.At), y))
		}
		p.Marks(kills)
		for _, c := range s.Cuts {
			p.Printf(`<rect class="band f%s" x="%.1f" y="%.1f" width="%.1f" height="14"/>`+"\n", s.System, svg.Left+xs.At(c.At), y, xs.At(c.Healed)-xs.At(c.At))
			if c.Agreed > 0 {
				p.Printf(`<path class="tick %s" d="M%.1f %.1fv14"/>`+"\n", s.System, svg.Left+xs.At(c.Agreed), y)
			}
		}
		text := fmt.Sprintf("%d kills", len(s.Kills))
		if r.Partition {
			text = fmt.Sprintf("%d cuts; line: one model", len(s.Cuts))
		}
		p.Text("dim", svg.KeyLeft, y+13, text)
	}
	return p.Done()
}

// drawPushes draws which share of the pushes took longer than a time.
func (r *Report) drawPushes() []byte {
	p := svg.New("How long a push takes until it is acknowledged", r.about(), 300, 64, series...)
	xs, ys := svg.Scale{Low: 0.001, High: 1, Log: true, Size: svg.Wide}, svg.Scale{Low: 0.1, High: 1, Log: true, Size: p.Height}
	for _, s := range r.Systems {
		l := s.Latencies(anyPush)
		for len(l) > 0 && l[len(l)-1] > xs.High {
			xs.High *= 10
		}
		for len(l) > 0 && 1/float64(len(l)) < ys.Low {
			ys.Low /= 10
		}
	}
	p.Up(ys, "share of pushes that took longer", func(y float64) string { return plain(100*y) + "%" })
	p.Along(xs, "from the start of the first attempt to the receipt", figures.Seconds)
	for i, s := range r.Systems {
		l := s.Latencies(anyPush)
		if len(l) == 0 {
			continue
		}
		points := [][2]float64{{0, ys.At(1)}}
		for n, t := range l {
			x := xs.At(t)
			points = append(points, [2]float64{x, ys.At(1 - float64(n)/float64(len(l)))})
			if n < len(l)-1 {
				points = append(points, [2]float64{x, ys.At(1 - float64(n+1)/float64(len(l)))})
			} else {
				points = append(points, [2]float64{x, 0})
			}
		}
		p.Line(s.System, points)
		p.Key(i, s.System, "p99 "+figures.Seconds(figures.Quantile(l, 0.99)))
	}
	return p.Done()
}

// drawAgreement draws a dot for each kill: how long it took until all living
// processes had come to the same later round.
func (r *Report) drawAgreement() []byte {
	const row = 56
	title := "From a kill until all living processes agree on a later round"
	if r.Partition {
		title = "From the first contact after a cut until all processes have one model"
	}
	p := svg.New(title, r.about(), row*len(r.Systems), 64, series...)
	xs := svg.Scale{High: 1, Size: svg.Wide}
	for _, s := range r.Systems {
		if took, _ := s.Agreements(); len(took) > 0 {
			xs.High = max(xs.High, took[len(took)-1]*1.05)
		}
	}
	p.Along(xs, "seconds; the line is the median", plain)
	for i, s := range r.Systems {
		took, open := s.Agreements()
		y := float64(svg.Top + row*i + row/2)
		p.Text("head num", svg.Left-9, y+4, s.System)
		var dots []string
		for n, t := range took {
			// Apart a little, so that equal ones can be seen.
			dots = append(dots, fmt.Sprintf(`<circle class="dot f%s" cx="%.1f" cy="%.1f" r="4.5"/>`, s.System, svg.Left+xs.At(t), y+float64(n%5-2)*5))
		}
		p.Marks(dots)
		if len(took) == 0 {
			continue
		}
		p.Printf(`<path class="line %s" d="M%.1f %.1fv36"/>`+"\n", s.System, svg.Left+xs.At(figures.Quantile(took, 0.5)), y-18)
		p.Text("", svg.KeyLeft, y-4, "p50 "+figures.Seconds(figures.Quantile(took, 0.5)))
		text := "p99 " + figures.Seconds(figures.Quantile(took, 0.99))
		if open > 0 {
			text += fmt.Sprintf(", %d open", open)
		}
		p.Text("dim", svg.KeyLeft, y+14, text)
	}
	return p.Done()
}
