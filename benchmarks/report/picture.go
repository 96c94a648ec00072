package report

import (
	"fmt"
	"image/color"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	xfont "golang.org/x/image/font"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// Colours that can be told apart by people who see few of them (Okabe and Ito),
// one for each phase.
var (
	black  = color.RGBA{0x22, 0x22, 0x22, 0xff}
	grey   = color.RGBA{0x99, 0x99, 0x99, 0xff}
	faint  = color.RGBA{0xdd, 0xdd, 0xdd, 0xff}
	colour = []color.RGBA{{0x00, 0x72, 0xb2, 0xff}, {0x56, 0xb4, 0xe9, 0xff}, {0xe6, 0x9f, 0x00, 0xff}, {0xd5, 0x5e, 0x00, 0xff}}
)

const (
	width     = 24 * vg.Centimeter
	rowHeight = 1.5 * vg.Centimeter
	margin    = 5 * vg.Millimeter
)

func sans(size vg.Length, weight xfont.Weight) font.Font {
	return font.Font{Typeface: "Liberation", Variant: "Sans", Weight: weight, Size: size}
}

// SavePicture draws the report into files; the extension says the format: png
// or svg.
func (r *Report) SavePicture(files ...string) error {
	for _, file := range files {
		f, err := os.Create(file)
		if err != nil {
			return fmt.Errorf("report: %w", err)
		}
		err = r.Picture(f, strings.TrimPrefix(filepath.Ext(file), "."))
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			return fmt.Errorf("report: %s: %w", file, err)
		}
	}
	return nil
}

// Picture draws the report in a format, png or svg: a bar for each mesh and for
// each thing it is compared with, in multiples of the copy, divided into phases.
func (r *Report) Picture(w io.Writer, format string) error {
	b, err := r.bars()
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	height := vg.Length(b.rows)*rowHeight + 4*vg.Centimeter
	c, err := draw.NewFormattedCanvas(width, height, format)
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	page := draw.New(c)
	page.SetColor(color.White)
	page.Fill(page.Path())
	b.plot.Draw(draw.Crop(page, margin, -margin, margin, -margin))
	if _, err := c.WriteTo(w); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}

// bars is a picture in the making, from the top row down.
type bars struct {
	plot  *plot.Plot
	rows  int
	names []plot.Tick
	end   float64 // of the longest bar
}

func (r *Report) bars() (*bars, error) {
	sizes := r.Sizes()
	b := &bars{plot: plot.New(), rows: len(sizes) + 2}
	b.frame(fmt.Sprintf("%d combiners push %s float32 parameters each, until every peer serves their mean", r.Combiners, count(r.Params)))
	one := func(x Run) float64 { return x.Copy }
	sum := func(x Run) float64 { return x.Sum }
	if err := b.whole("copy in memory", r.Of(0, overCopy(one)), r.Of(0, one)); err != nil {
		return nil, err
	}
	if err := b.whole("pure sum", r.Of(0, overCopy(sum)), r.Of(0, sum)); err != nil {
		return nil, err
	}
	for i, n := range sizes {
		row, from := b.row(peers(n)), 0.0
		for j, phase := range phases {
			legend := ""
			if i == 0 {
				legend = phase.name
			}
			// The median of a later phase is never before that of an earlier one.
			to := r.Of(n, overCopy(phase.until)).Median
			if err := b.bar(row, from, to, colour[j], legend); err != nil {
				return nil, err
			}
			from = to
		}
		served := phases[len(phases)-1].until
		if err := b.label(row, r.Of(n, overCopy(served)), r.Of(n, served)); err != nil {
			return nil, err
		}
	}
	b.plot.Y.Tick.Marker = plot.ConstantTicks(b.names)
	b.plot.Y.Min, b.plot.Y.Max = -0.6, float64(b.rows)-0.4
	b.plot.X.Min, b.plot.X.Max = 0, b.end*1.22 // room for the figures behind the bars
	return b, nil
}

func overCopy(value func(Run) float64) func(Run) float64 {
	return func(x Run) float64 { return value(x) / x.Copy }
}

// frame sets up all that is around the bars.
func (b *bars) frame(title string) {
	p := b.plot
	p.Title.Text = title
	p.Title.TextStyle.Font = sans(14, xfont.WeightBold)
	p.Title.TextStyle.Color = black
	p.Title.Padding = 5 * vg.Millimeter
	p.X.Label.Text = "times as long as copying the same bytes in memory (median of the repeats; the line goes from the smallest to the largest)"
	p.X.Label.TextStyle.Font = sans(10, xfont.WeightNormal)
	p.X.Label.Padding = 2 * vg.Millimeter
	p.X.Tick.Label.Font = sans(10, xfont.WeightNormal)
	p.X.Tick.Marker = plot.TickerFunc(func(low, high float64) []plot.Tick {
		ticks := plot.DefaultTicks{}.Ticks(low, high)
		for i, t := range ticks {
			if t.Label != "" {
				ticks[i].Label = strconv.FormatFloat(t.Value, 'g', 4, 64)
			}
		}
		return ticks
	})
	p.Y.Tick.Label.Font = sans(12, xfont.WeightNormal)
	p.Y.Tick.Length = 0
	p.X.Padding, p.Y.Padding = 0, 0
	p.Legend.Top = true
	p.Legend.TextStyle.Font = sans(11, xfont.WeightNormal)
	p.Legend.ThumbnailWidth = 5 * vg.Millimeter
	p.Legend.Padding = 1 * vg.Millimeter
	grid := plotter.NewGrid()
	grid.Horizontal.Color = nil
	grid.Vertical.Color = faint
	p.Add(grid)
}

// row begins the next one.
func (b *bars) row(name string) float64 {
	y := float64(b.rows - 1 - len(b.names))
	b.names = append(b.names, plot.Tick{Value: y, Label: name + " "})
	return y
}

// whole is a row of one part.
func (b *bars) whole(name string, ratio, seconds Summary) error {
	y := b.row(name)
	if err := b.bar(y, 0, ratio.Median, grey, ""); err != nil {
		return err
	}
	return b.label(y, ratio, seconds)
}

// bar draws a part of a row.
func (b *bars) bar(y, from, to float64, c color.Color, legend string) error {
	const half = 0.32
	poly, err := plotter.NewPolygon(plotter.XYs{{X: from, Y: y - half}, {X: to, Y: y - half}, {X: to, Y: y + half}, {X: from, Y: y + half}})
	if err != nil {
		return err
	}
	poly.Color = c
	poly.Width = 0
	b.plot.Add(poly)
	if legend != "" {
		b.plot.Legend.Add(legend, poly)
	}
	return nil
}

// label writes the figures behind a row's bar, whose end a line shows from the
// smallest repeat to the largest.
func (b *bars) label(y float64, ratio, seconds Summary) error {
	const tip = 0.08
	if ratio.Max > ratio.Min {
		line, err := plotter.NewLine(plotter.XYs{
			{X: ratio.Min, Y: y - tip},
			{X: ratio.Min, Y: y + tip},
			{X: ratio.Min, Y: y},
			{X: ratio.Max, Y: y},
			{X: ratio.Max, Y: y - tip},
			{X: ratio.Max, Y: y + tip},
		})
		if err != nil {
			return err
		}
		line.Width, line.Color = vg.Points(1.2), black
		b.plot.Add(line)
	}
	text := fmt.Sprintf("%s×   %s s", digits(ratio.Median), digits(seconds.Median))
	labels, err := plotter.NewLabels(plotter.XYLabels{XYs: plotter.XYs{{X: ratio.Max, Y: y}}, Labels: []string{text}})
	if err != nil {
		return err
	}
	for i := range labels.TextStyle {
		labels.TextStyle[i].Font = sans(11, xfont.WeightBold)
		labels.TextStyle[i].Color = black
		labels.TextStyle[i].YAlign = draw.YCenter
	}
	labels.Offset = vg.Point{X: 2 * vg.Millimeter}
	b.plot.Add(labels)
	b.end = max(b.end, ratio.Max)
	return nil
}
