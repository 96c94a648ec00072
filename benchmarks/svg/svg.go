package svg

import (
	"bytes"
	"fmt"
	"html"
	"math"
	"slices"
	"strings"
)

// Sizes of a picture and of the frame that things are drawn in, in pixels.
const (
	Width   = 900
	Left    = 84
	Top     = 92
	Wide    = 640
	KeyLeft = Left + Wide + 24
)

// Colours is how many series can be told apart, also by people who see few
// colours (Okabe and Ito).
const Colours = 5

var (
	light = [Colours]string{"#0072b2", "#b87f00", "#c24a00", "#007a5a", "#a8527d"}
	dark  = [Colours]string{"#56b4e9", "#e6b422", "#f0804d", "#2fbf93", "#d98fb8"}
)

const (
	styleHead = `<style>
text{font-family:system-ui,-apple-system,"Segoe UI","Helvetica Neue",Arial,sans-serif;font-size:13px;fill:#1f2328}
.ground{fill:#ffffff;stroke:#d0d7de}.grid{stroke:#d8dee4}.axis{stroke:#8c959f}.dim{fill:#59636e}
.title{font-size:18px;font-weight:600}.head{font-weight:600}.num{font-variant-numeric:tabular-nums;text-anchor:end}.mid{text-anchor:middle}
.line{fill:none;stroke-width:2.2;stroke-linejoin:round}.tick{stroke-width:1.6}.band{fill-opacity:.3}.dot{fill-opacity:.55}
`
	styleDark = `
@media (prefers-color-scheme:dark){text{fill:#e6edf3}.ground{fill:#0d1117;stroke:#3d444d}.grid{stroke:#2a313c}.axis{stroke:#6e7681}.dim{fill:#9198a1}
`
)

// Picture is one in the making.
type Picture struct {
	b      bytes.Buffer
	Height int // of the frame
}

// New begins a picture with a frame of some height and room below it for the axis
// and more. Each series is a class that lines and marks may have, or with an f
// before its name shapes that are filled; Colours says how many there may be.
func New(title, subtitle string, height, below int, series ...string) *Picture {
	p := &Picture{Height: height}
	whole := Top + height + below
	p.Printf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label="%s">`+"\n",
		Width, whole, Width, whole, html.EscapeString(title))
	p.style(series)
	p.Printf(`<rect class="ground" x="0.5" y="0.5" width="%d" height="%d" rx="8"/>`+"\n", Width-1, whole-1)
	p.Text("title", 24, 34, title)
	p.Text("dim", 24, 56, subtitle)
	return p
}

// style writes colours for light ground, and for dark ground where that is wanted.
func (p *Picture) style(series []string) {
	list := func(of [Colours]string, prefix, property string) {
		for i, s := range series {
			p.Printf(".%s%s{%s:%s}", prefix, s, property, of[i%Colours])
		}
	}
	p.b.WriteString(styleHead)
	list(light, "", "stroke")
	p.b.WriteString("\n")
	list(light, "f", "fill")
	p.b.WriteString(styleDark)
	list(dark, "", "stroke")
	p.b.WriteString("\n")
	list(dark, "f", "fill")
	p.b.WriteString("}\n</style>\n")
}

// Printf adds SVG as it is.
func (p *Picture) Printf(format string, args ...any) { fmt.Fprintf(&p.b, format, args...) }

// Text writes a text; classes are title, head, dim, num (ends at x) and mid.
func (p *Picture) Text(class string, x, y float64, text string) {
	p.Printf(`<text class="%s" x="%.1f" y="%.1f">%s</text>`+"\n", class, x, y, html.EscapeString(text))
}

// Done is the whole picture.
func (p *Picture) Done() []byte {
	p.b.WriteString("</svg>\n")
	return p.b.Bytes()
}

// Scale places values along an axis of so many pixels.
type Scale struct {
	Low, High float64
	Log       bool
	Size      int // in pixels
}

// At is where a value is, in pixels from the axis' start.
func (s Scale) At(x float64) float64 {
	low, high := s.Low, s.High
	if s.Log {
		x, low, high = math.Log10(max(x, low)), math.Log10(low), math.Log10(high)
	}
	return float64(s.Size) * (x - low) / (high - low)
}

// Ticks are round values along the axis: powers of ten of a logarithmic one.
func (s Scale) Ticks() []float64 {
	var out []float64
	if s.Log {
		for x := s.Low; x <= s.High*1.001; x *= 10 {
			out = append(out, x)
		}
		return out
	}
	step := math.Pow(10, math.Floor(math.Log10(s.High-s.Low)))
	for _, f := range []float64{0.1, 0.2, 0.5, 1} {
		if (s.High-s.Low)/(step*f) <= 8 {
			step *= f
			break
		}
	}
	for i := math.Ceil(s.Low / step); i*step <= s.High*1.001; i++ {
		out = append(out, i*step)
	}
	return out
}

// Along draws the axis below the frame.
func (p *Picture) Along(s Scale, name string, label func(float64) string) {
	bottom := float64(Top + p.Height)
	for _, x := range s.Ticks() {
		at := Left + s.At(x)
		p.Printf(`<path class="grid" d="M%.1f %dV%.1f"/>`+"\n", at, Top, bottom)
		p.Text("dim mid", at, bottom+20, label(x))
	}
	p.Printf(`<path class="axis" d="M%d %.1fh%d"/>`+"\n", Left, bottom, Wide)
	p.Text("dim mid", Left+Wide/2, bottom+42, name)
}

// Up draws the axis left of the frame.
func (p *Picture) Up(s Scale, name string, label func(float64) string) {
	for _, y := range s.Ticks() {
		at := float64(Top+p.Height) - s.At(y)
		p.Printf(`<path class="grid" d="M%d %.1fh%d"/>`+"\n", Left, at, Wide)
		p.Text("dim num", Left-9, at+4, label(y))
	}
	p.Printf(`<text class="dim mid" transform="translate(26 %d) rotate(-90)">%s</text>`+"\n", Top+p.Height/2, html.EscapeString(name))
}

// Key writes a series' name and something about it beside the frame.
func (p *Picture) Key(i int, series, about string) {
	y := float64(Top + 12 + 44*i)
	p.Printf(`<path class="line %s" d="M%d %.1fh22"/>`+"\n", series, KeyLeft, y-4)
	p.Text("head", KeyLeft+30, y, series)
	p.Text("dim", KeyLeft+30, y+18, about)
}

// Marks writes small shapes, several to a line of the file: a long run has
// thousands of them.
func (p *Picture) Marks(shapes []string) {
	for some := range slices.Chunk(shapes, 8) {
		p.Printf("%s\n", strings.Join(some, ""))
	}
}

// Line draws a line through points in pixels of the frame, from its lower left.
func (p *Picture) Line(class string, points [][2]float64) {
	p.Printf(`<path class="line %s" d="`, class)
	for i, q := range thin(points) {
		letter := "L"
		if i == 0 {
			letter = "M"
		}
		p.Printf("%s%.1f %.1f", letter, Left+q[0], float64(Top+p.Height)-q[1])
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
