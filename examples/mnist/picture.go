package main

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Where things are in a picture, in its own units.
const (
	panelWidth  = 400
	panelHeight = 400
	panelGap    = 28
	panelLeft   = 78
	panelTop    = 98
	panelBottom = 62
	keyWidth    = 262
)

// accuracies are the lines of the vertical axis. It is logarithmic in the share
// of errors, so that what happens near 1 is seen.
var accuracies = []float64{0, 0.5, 0.8, 0.9, 0.95, 0.98}

// colours can be told apart by people who see few of them, and are seen on light
// and on dark ground (after Okabe and Ito). Further lines have them again, dashed.
var colours = []string{"#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9"}

// picture shows accuracy over rounds: a panel in peace and one under attack, with
// a line for each strategy.
type picture struct {
	title, subtitle string
	panels          []panel
	rounds          int
	b               bytes.Buffer
}

type panel struct {
	title string
	lines []line
}

type line struct {
	name     string
	accuracy []float64 // from round 1 on
}

func (l line) last() float64 { return l.accuracy[len(l.accuracy)-1] }

func (c Comparison) picture() *picture {
	p := &picture{
		title:    "MNIST: accuracy by strategy",
		subtitle: fmt.Sprintf("%d peers, %d combiners, seed %d", c.Peers, c.Combiners, c.Seed),
	}
	titles := map[string]string{
		attackNone: "no attack",
		c.Attack:   fmt.Sprintf("%d of %d combiners attack: %s × %v", c.Attackers, c.Combiners, c.Attack, c.Scale),
	}
	if c.Attackers == 0 {
		titles[attackNone] = "no attack"
	}
	for _, r := range c.Trials {
		if n := len(p.panels); n == 0 || p.panels[n-1].title != titles[r.Attack] {
			p.panels = append(p.panels, panel{title: titles[r.Attack]})
		}
		l := line{name: r.Strategy}
		for _, round := range r.Rounds {
			l.accuracy = append(l.accuracy, round.Accuracy)
		}
		p.rounds = max(p.rounds, len(l.accuracy))
		last := &p.panels[len(p.panels)-1]
		last.lines = append(last.lines, l)
	}
	return p
}

// style has colours for light ground, and for dark ground where that is wanted.
const style = `<style>
text{font-family:system-ui,-apple-system,"Segoe UI","Helvetica Neue",Arial,sans-serif;font-size:13px;fill:#1f2328}
.ground{fill:#ffffff;stroke:#d0d7de}.grid{stroke:#d8dee4}.axis{stroke:#8c959f}.dim{fill:#59636e}
.title{font-size:18px;font-weight:600}.head{font-weight:600}.num{font-variant-numeric:tabular-nums;text-anchor:end}
.line{fill:none;stroke-width:2.2;stroke-linejoin:round;stroke-linecap:round}
@media (prefers-color-scheme:dark){text{fill:#e6edf3}.ground{fill:#0d1117;stroke:#3d444d}.grid{stroke:#2a313c}.axis{stroke:#6e7681}.dim{fill:#9198a1}}
</style>
`

// render draws the picture as SVG.
func (p *picture) render() []byte {
	width := panelLeft + len(p.panels)*(panelWidth+panelGap) + keyWidth
	height := panelTop + panelHeight + panelBottom
	p.printf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label="%s">`+"\n",
		width, height, width, height, escape(p.title))
	p.b.WriteString(style)
	p.printf(`<rect class="ground" x="0.5" y="0.5" width="%d" height="%d" rx="8"/>`+"\n", width-1, height-1)
	p.text("title", 24, 34, p.title)
	p.text("dim", 24, 54, p.subtitle)
	mid := panelTop + panelHeight/2
	p.printf(`<text class="dim" transform="translate(26 %d) rotate(-90)" text-anchor="middle">accuracy, logarithmic in the errors</text>`+"\n", mid)
	for i := range p.panels {
		p.panel(i, panelLeft+i*(panelWidth+panelGap))
	}
	p.key(panelLeft + len(p.panels)*(panelWidth+panelGap))
	p.b.WriteString("</svg>\n")
	return p.b.Bytes()
}

// panel draws a panel whose left edge is at x.
func (p *picture) panel(i, x int) {
	bottom := panelTop + panelHeight
	p.text("head", float64(x), panelTop-12, p.panels[i].title)
	for _, a := range accuracies {
		y := height(a)
		p.printf(`<path class="grid" d="M%d %.1fh%d"/>`+"\n", x, y, panelWidth)
		if i == 0 {
			p.text("dim num", float64(x-9), y+4, fmt.Sprintf("%.2f", a))
		}
	}
	p.printf(`<path class="axis" d="M%d %dh%d"/>`+"\n", x, bottom, panelWidth)
	step := max(1, int(math.Ceil(float64(p.rounds)/10)))
	for round := step; round <= p.rounds; round += step {
		at := float64(x) + p.across(round)
		p.printf(`<path class="axis" d="M%.1f %dv5"/>`+"\n", at, bottom)
		p.printf(`<text class="dim" x="%.1f" y="%d" text-anchor="middle">%d</text>`+"\n", at, bottom+20, round)
	}
	p.printf(`<text class="dim" x="%d" y="%d" text-anchor="middle">round</text>`+"\n", x+panelWidth/2, bottom+42)
	for n, l := range p.panels[i].lines {
		var d strings.Builder
		for k, a := range l.accuracy {
			letter := "L"
			if k == 0 {
				letter = "M"
			}
			fmt.Fprintf(&d, "%s%.1f %.1f", letter, float64(x)+p.across(k+1), height(a))
		}
		p.printf(`<path class="line" %s d="%s"><title>%s</title></path>`+"\n", stroke(n), d.String(), escape(l.name))
	}
}

// key lists the lines with their last accuracies, the best of the last panel
// first.
func (p *picture) key(x int) {
	const first, rows = 58, 24.0
	y := float64(panelTop - 12)
	heads := []string{"no attack", "attack"}
	if len(p.panels) == 1 {
		heads = []string{"accuracy"}
	}
	for i, head := range heads {
		p.text("dim num", float64(x+first*(i+1)+132), y, head)
	}
	order := make([]int, len(p.panels[0].lines))
	for i := range order {
		order[i] = i
	}
	decides := p.panels[len(p.panels)-1].lines
	slices.SortStableFunc(order, func(a, b int) int {
		switch la, lb := decides[a].last(), decides[b].last(); {
		case la > lb:
			return -1
		case la < lb:
			return 1
		}
		return 0
	})
	for row, n := range order {
		y := float64(panelTop) + rows*float64(row) + 14
		p.printf(`<path class="line" %s d="M%d %.1fh26"/>`+"\n", stroke(n), x, y-4)
		p.text("", float64(x+34), y, p.panels[0].lines[n].name)
		for i := range p.panels {
			p.text("num", float64(x+first*(i+1)+132), y, fmt.Sprintf("%.3f", p.panels[i].lines[n].last()))
		}
	}
}

// stroke tells line n from the others.
func stroke(n int) string {
	s := fmt.Sprintf(`stroke="%s"`, colours[n%len(colours)])
	if n >= len(colours) {
		s += ` stroke-dasharray="7 5"`
	}
	return s
}

// across is how far right of a panel's left edge a round is.
func (p *picture) across(round int) float64 {
	if p.rounds < 2 {
		return panelWidth / 2
	}
	return panelWidth * float64(round-1) / float64(p.rounds-1)
}

// height is where an accuracy is.
func height(accuracy float64) float64 {
	top := accuracies[len(accuracies)-1]
	share := math.Log(1-max(0, min(accuracy, top))) / math.Log(1-top)
	return panelTop + panelHeight*(1-share)
}

func (p *picture) text(class string, x, y float64, text string) {
	p.printf(`<text class="%s" x="%.1f" y="%.1f">%s</text>`+"\n", class, x, y, escape(text))
}

func (p *picture) printf(format string, args ...any) { fmt.Fprintf(&p.b, format, args...) }

func escape(s string) string {
	var b strings.Builder
	if err := xml.EscapeText(&b, []byte(s)); err != nil {
		return ""
	}
	return b.String()
}
