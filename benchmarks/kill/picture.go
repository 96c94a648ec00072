package main

import (
	"bytes"
	"fmt"
	"html"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Sizes of a picture and of the frame that things are drawn in, in pixels.
const (
	picWidth  = 900
	frameLeft = 84
	frameTop  = 92
	frameWide = 640
	keyLeft   = frameLeft + frameWide + 24
)

// style has colours for light ground, and for dark ground where that is wanted.
// The systems' can be told apart by people who see few colours (Okabe and Ito).
const style = `<style>
text{font-family:system-ui,-apple-system,"Segoe UI","Helvetica Neue",Arial,sans-serif;font-size:13px;fill:#1f2328}
.ground{fill:#ffffff;stroke:#d0d7de}.grid{stroke:#d8dee4}.axis{stroke:#8c959f}.dim{fill:#59636e}
.title{font-size:18px;font-weight:600}.head{font-weight:600}.num{font-variant-numeric:tabular-nums;text-anchor:end}.mid{text-anchor:middle}
.line{fill:none;stroke-width:2.2;stroke-linejoin:round}.tick{stroke-width:1.6}.band{fill-opacity:.3}.dot{fill-opacity:.55}
.mesh{stroke:#0072b2}.raft{stroke:#b87f00}.single{stroke:#c24a00}
.fmesh{fill:#0072b2}.fraft{fill:#b87f00}.fsingle{fill:#c24a00}
@media (prefers-color-scheme:dark){text{fill:#e6edf3}.ground{fill:#0d1117;stroke:#3d444d}.grid{stroke:#2a313c}.axis{stroke:#6e7681}.dim{fill:#9198a1}
.mesh{stroke:#56b4e9}.raft{stroke:#e6b422}.single{stroke:#f0804d}
.fmesh{fill:#56b4e9}.fraft{fill:#e6b422}.fsingle{fill:#f0804d}}
</style>
`

// pictures draws the run as SVG, by name.
func (r *Report) pictures() map[string][]byte {
	return map[string][]byte{"rounds": r.drawRounds(), "push": r.drawPushes(), "agreement": r.drawAgreement()}
}

// picture is one in the making.
type picture struct {
	b      bytes.Buffer
	height int // of the frame
}

func newPicture(title, subtitle string, height, below int) *picture {
	p := &picture{height: height}
	whole := frameTop + height + below
	p.printf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label="%s">`+"\n",
		picWidth, whole, picWidth, whole, html.EscapeString(title))
	p.b.WriteString(style)
	p.printf(`<rect class="ground" x="0.5" y="0.5" width="%d" height="%d" rx="8"/>`+"\n", picWidth-1, whole-1)
	p.text("title", 24, 34, title)
	p.text("dim", 24, 56, subtitle)
	return p
}

func (p *picture) printf(format string, args ...any) { fmt.Fprintf(&p.b, format, args...) }

func (p *picture) text(class string, x, y float64, text string) {
	p.printf(`<text class="%s" x="%.1f" y="%.1f">%s</text>`+"\n", class, x, y, html.EscapeString(text))
}

func (p *picture) done() []byte {
	p.b.WriteString("</svg>\n")
	return p.b.Bytes()
}

// scale places values along an axis of so many pixels.
type scale struct {
	low, high float64
	log       bool
	size      int
}

func (s scale) at(x float64) float64 {
	low, high := s.low, s.high
	if s.log {
		x, low, high = math.Log10(max(x, low)), math.Log10(low), math.Log10(high)
	}
	return float64(s.size) * (x - low) / (high - low)
}

// ticks are round values along the axis: powers of ten of a logarithmic one.
func (s scale) ticks() []float64 {
	var out []float64
	if s.log {
		for x := s.low; x <= s.high*1.001; x *= 10 {
			out = append(out, x)
		}
		return out
	}
	step := math.Pow(10, math.Floor(math.Log10(s.high-s.low)))
	for _, f := range []float64{0.1, 0.2, 0.5, 1} {
		if (s.high-s.low)/(step*f) <= 8 {
			step *= f
			break
		}
	}
	for i := math.Ceil(s.low / step); i*step <= s.high*1.001; i++ {
		out = append(out, i*step)
	}
	return out
}

// along draws the axis below the frame.
func (p *picture) along(s scale, name string, label func(float64) string) {
	bottom := float64(frameTop + p.height)
	for _, x := range s.ticks() {
		at := frameLeft + s.at(x)
		p.printf(`<path class="grid" d="M%.1f %dV%.1f"/>`+"\n", at, frameTop, bottom)
		p.text("dim mid", at, bottom+20, label(x))
	}
	p.printf(`<path class="axis" d="M%d %.1fh%d"/>`+"\n", frameLeft, bottom, frameWide)
	p.text("dim mid", frameLeft+frameWide/2, bottom+42, name)
}

// up draws the axis left of the frame.
func (p *picture) up(s scale, name string, label func(float64) string) {
	for _, y := range s.ticks() {
		at := float64(frameTop+p.height) - s.at(y)
		p.printf(`<path class="grid" d="M%d %.1fh%d"/>`+"\n", frameLeft, at, frameWide)
		p.text("dim num", frameLeft-9, at+4, label(y))
	}
	p.printf(`<text class="dim mid" transform="translate(26 %d) rotate(-90)">%s</text>`+"\n", frameTop+p.height/2, html.EscapeString(name))
}

// key writes a system's name and something about it beside the frame.
func (p *picture) key(i int, system, about string) {
	y := float64(frameTop + 12 + 44*i)
	p.printf(`<path class="line %s" d="M%d %.1fh22"/>`+"\n", system, keyLeft, y-4)
	p.text("head", keyLeft+30, y, system)
	p.text("dim", keyLeft+30, y+18, about)
}

// marks writes small shapes, several to a line of the file: a long run has
// thousands of them.
func (p *picture) marks(shapes []string) {
	for some := range slices.Chunk(shapes, 8) {
		p.printf("%s\n", strings.Join(some, ""))
	}
}

// line draws a line through points in pixels of the frame, from its lower left.
func (p *picture) line(class string, points [][2]float64) {
	p.printf(`<path class="line %s" d="`, class)
	for i, q := range thin(points) {
		letter := "L"
		if i == 0 {
			letter = "M"
		}
		p.printf("%s%.1f %.1f", letter, frameLeft+q[0], float64(frameTop+p.height)-q[1])
	}
	p.b.WriteString(`"/>` + "\n")
}

// thin leaves out points so close to the one before that nobody can tell, but for
// the last: long runs have very many.
func thin(points [][2]float64) [][2]float64 {
	const near = 0.25 // pixels
	var out [][2]float64
	for i, q := range points {
		if n := len(out); n > 0 && i < len(points)-1 && math.Abs(q[0]-out[n-1][0]) < near && math.Abs(q[1]-out[n-1][1]) < near {
			continue
		}
		out = append(out, q)
	}
	return out
}

// about is the line below a title.
func (r *Report) about() string {
	return fmt.Sprintf("%d combiners, %s float32 parameters. %s", r.Combiners, count(float64(r.Params)), r.plan())
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
	p := newPicture(title, r.about(), 300, 64+strip*len(r.Systems)+34)
	xs, ys := scale{high: 1, size: frameWide}, scale{high: 1, size: p.height}
	for _, s := range r.Systems {
		xs.high, ys.high = max(xs.high, s.Seconds), max(ys.high, float64(len(s.Finished)))
	}
	p.up(ys, "rounds", plain)
	p.along(xs, "seconds", plain)
	for i, s := range r.Systems {
		points := [][2]float64{{0, 0}}
		for n, t := range s.Finished {
			points = append(points, [2]float64{xs.at(t), ys.at(float64(n))}, [2]float64{xs.at(t), ys.at(float64(n + 1))})
		}
		p.line(s.System, points)
		p.key(i, s.System, fmt.Sprintf("%d rounds, %s", len(s.Finished), seconds(s.Seconds)))
		y := float64(frameTop + p.height + 64 + strip*i)
		p.text("dim num", frameLeft-9, y+13, s.System)
		var kills []string
		for _, k := range s.Kills {
			kills = append(kills, fmt.Sprintf(`<path class="tick %s" d="M%.1f %.1fv14"/>`, s.System, frameLeft+xs.at(k.At), y))
		}
		p.marks(kills)
		for _, c := range s.Cuts {
			p.printf(`<rect class="band f%s" x="%.1f" y="%.1f" width="%.1f" height="14"/>`+"\n", s.System, frameLeft+xs.at(c.At), y, xs.at(c.Healed)-xs.at(c.At))
			if c.Agreed > 0 {
				p.printf(`<path class="tick %s" d="M%.1f %.1fv14"/>`+"\n", s.System, frameLeft+xs.at(c.Agreed), y)
			}
		}
		text := fmt.Sprintf("%d kills", len(s.Kills))
		if r.Partition {
			text = fmt.Sprintf("%d cuts; line: one model", len(s.Cuts))
		}
		p.text("dim", keyLeft, y+13, text)
	}
	return p.done()
}

// drawPushes draws which share of the pushes took longer than a time.
func (r *Report) drawPushes() []byte {
	p := newPicture("How long a push takes until it is acknowledged", r.about(), 300, 64)
	xs, ys := scale{low: 0.001, high: 1, log: true, size: frameWide}, scale{low: 0.1, high: 1, log: true, size: p.height}
	for _, s := range r.Systems {
		l := s.Latencies(anyPush)
		for len(l) > 0 && l[len(l)-1] > xs.high {
			xs.high *= 10
		}
		for len(l) > 0 && 1/float64(len(l)) < ys.low {
			ys.low /= 10
		}
	}
	p.up(ys, "share of pushes that took longer", func(y float64) string { return plain(100*y) + "%" })
	p.along(xs, "from the start of the first attempt to the receipt", seconds)
	for i, s := range r.Systems {
		l := s.Latencies(anyPush)
		if len(l) == 0 {
			continue
		}
		points := [][2]float64{{0, ys.at(1)}}
		for n, t := range l {
			x := xs.at(t)
			points = append(points, [2]float64{x, ys.at(1 - float64(n)/float64(len(l)))})
			if n < len(l)-1 {
				points = append(points, [2]float64{x, ys.at(1 - float64(n+1)/float64(len(l)))})
			} else {
				points = append(points, [2]float64{x, 0})
			}
		}
		p.line(s.System, points)
		p.key(i, s.System, "p99 "+seconds(quantile(l, 0.99)))
	}
	return p.done()
}

// drawAgreement draws a dot for each kill: how long it took until all living
// processes had come to the same later round.
func (r *Report) drawAgreement() []byte {
	const row = 56
	title := "From a kill until all living processes agree on a later round"
	if r.Partition {
		title = "From the first contact after a cut until all processes have one model"
	}
	p := newPicture(title, r.about(), row*len(r.Systems), 64)
	xs := scale{high: 1, size: frameWide}
	for _, s := range r.Systems {
		if took, _ := s.Agreements(); len(took) > 0 {
			xs.high = max(xs.high, took[len(took)-1]*1.05)
		}
	}
	p.along(xs, "seconds; the line is the median", plain)
	for i, s := range r.Systems {
		took, open := s.Agreements()
		y := float64(frameTop + row*i + row/2)
		p.text("head num", frameLeft-9, y+4, s.System)
		var dots []string
		for n, t := range took {
			// Apart a little, so that equal ones can be seen.
			dots = append(dots, fmt.Sprintf(`<circle class="dot f%s" cx="%.1f" cy="%.1f" r="4.5"/>`, s.System, frameLeft+xs.at(t), y+float64(n%5-2)*5))
		}
		p.marks(dots)
		if len(took) == 0 {
			continue
		}
		p.printf(`<path class="line %s" d="M%.1f %.1fv36"/>`+"\n", s.System, frameLeft+xs.at(quantile(took, 0.5)), y-18)
		p.text("", keyLeft, y-4, "p50 "+seconds(quantile(took, 0.5)))
		text := "p99 " + seconds(quantile(took, 0.99))
		if open > 0 {
			text += fmt.Sprintf(", %d open", open)
		}
		p.text("dim", keyLeft, y+14, text)
	}
	return p.done()
}
