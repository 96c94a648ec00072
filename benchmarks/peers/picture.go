package main

import (
	"fmt"
	"image/color"
	"io"
	"os"
	"path/filepath"
	"strings"

	xfont "golang.org/x/image/font"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"github.com/fedmesh/fedmesh/benchmarks/report"
)

// Colours that can be told apart by people who see few of them (Okabe and Ito).
var (
	black   = color.RGBA{0x22, 0x22, 0x22, 0xff}
	faint   = color.RGBA{0xdd, 0xdd, 0xdd, 0xff}
	colours = map[string]color.RGBA{
		"fedmesh": {0x00, 0x72, 0xb2, 0xff},
		"flower":  {0xe6, 0x9f, 0x00, 0xff},
		"fedn":    {0xd5, 0x5e, 0x00, 0xff},
	}
)

// SavePicture draws the times into files; the extension says the format: png or
// svg.
func (r *Report) SavePicture(files ...string) error {
	for _, file := range files {
		f, err := os.Create(file)
		if err != nil {
			return fmt.Errorf("peers: %w", err)
		}
		err = r.Picture(f, strings.TrimPrefix(filepath.Ext(file), "."))
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			return fmt.Errorf("peers: %s: %w", file, err)
		}
	}
	return nil
}

// Picture draws, in a format, png or svg, a bar for everything that was timed,
// in multiples of fedmesh's time.
func (r *Report) Picture(w io.Writer, format string) error {
	p := plot.New()
	frame(p, fmt.Sprintf("The mean of %d models of %s float32 parameters each", r.Combiners, count(r.Params)))
	var names []plot.Tick
	var n int
	for _, row := range rows {
		if r.measured(row.what) {
			n++
		}
	}
	end := 0.0
	for _, row := range rows {
		if !r.measured(row.what) {
			continue
		}
		y := float64(n - 1 - len(names))
		names = append(names, plot.Tick{Value: y, Label: row.name + " "})
		ratio := r.ratio(row.what, meshNever)
		end = max(end, ratio.Max)
		whose, _, _ := strings.Cut(row.what, "-")
		if err := bar(p, y, ratio, colours[whose], r.seconds(row.what)); err != nil {
			return fmt.Errorf("peers: %w", err)
		}
	}
	p.Y.Tick.Marker = plot.ConstantTicks(names)
	p.Y.Min, p.Y.Max = -0.6, float64(n)-0.4
	p.X.Min, p.X.Max = 0, end*1.22 // room for the figures behind the bars
	c, err := draw.NewFormattedCanvas(24*vg.Centimeter, vg.Length(n)*1.3*vg.Centimeter+4*vg.Centimeter, format)
	if err != nil {
		return fmt.Errorf("peers: %w", err)
	}
	page := draw.New(c)
	page.SetColor(color.White)
	page.Fill(page.Path())
	const margin = 5 * vg.Millimeter
	p.Draw(draw.Crop(page, margin, -margin, margin, -margin))
	if _, err := c.WriteTo(w); err != nil {
		return fmt.Errorf("peers: %w", err)
	}
	return nil
}

func sans(size vg.Length, weight xfont.Weight) font.Font {
	return font.Font{Typeface: "Liberation", Variant: "Sans", Weight: weight, Size: size}
}

// frame sets up all that is around the bars.
func frame(p *plot.Plot, title string) {
	p.Title.Text = title
	p.Title.TextStyle.Font = sans(14, xfont.WeightBold)
	p.Title.TextStyle.Color = black
	p.Title.Padding = 5 * vg.Millimeter
	p.X.Label.Text = "times as long as fedmesh with --fsync never (median of the repeats; the line goes from the smallest to the largest)"
	p.X.Label.TextStyle.Font = sans(10, xfont.WeightNormal)
	p.X.Label.Padding = 2 * vg.Millimeter
	p.X.Tick.Label.Font = sans(10, xfont.WeightNormal)
	p.Y.Tick.Label.Font = sans(12, xfont.WeightNormal)
	p.Y.Tick.Length = 0
	p.X.Padding, p.Y.Padding = 0, 0
	grid := plotter.NewGrid()
	grid.Horizontal.Color = nil
	grid.Vertical.Color = faint
	p.Add(grid)
}

// bar draws a row: the bar to the median, a line over the range, and the figures.
func bar(p *plot.Plot, y float64, ratio report.Summary, c color.Color, seconds report.Summary) error {
	const half, tip = 0.32, 0.08
	poly, err := plotter.NewPolygon(plotter.XYs{{X: 0, Y: y - half}, {X: ratio.Median, Y: y - half}, {X: ratio.Median, Y: y + half}, {X: 0, Y: y + half}})
	if err != nil {
		return err
	}
	poly.Color, poly.Width = c, 0
	p.Add(poly)
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
		p.Add(line)
	}
	text := fmt.Sprintf("%s×   %s s", median(ratio), median(seconds))
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
	p.Add(labels)
	return nil
}

// median writes a summary's median alone.
func median(s report.Summary) string {
	return report.Summary{Median: s.Median, Min: s.Median, Max: s.Median}.String()
}
