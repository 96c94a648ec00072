package main

import (
	"fmt"
	"image/color"
	"os"
	"path/filepath"
	"strings"

	xfont "golang.org/x/image/font"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// colourOf tells the builds apart, also for people who see few colours (Okabe and Ito).
func colourOf(build string) color.Color {
	if build == "assembly" {
		return color.RGBA{0x00, 0x72, 0xb2, 0xff}
	}
	return color.RGBA{0xe6, 0x9f, 0x00, 0xff}
}

func sans(size vg.Length, weight xfont.Weight) font.Font {
	return font.Font{Typeface: "Liberation", Variant: "Sans", Weight: weight, Size: size}
}

// savePicture draws a group of bars for each row, with a mark where the promise ends; the file's extension says the format: png or svg.
func savePicture(file string, all []repeat) error {
	p := plot.New()
	p.Title.TextStyle.Font = sans(14, xfont.WeightBold)
	p.Title.Padding = 5 * vg.Millimeter
	p.X.Label.TextStyle.Font = sans(10, xfont.WeightNormal)
	p.X.Tick.Label.Font = sans(10, xfont.WeightNormal)
	p.Y.Tick.Label.Font = sans(12, xfont.WeightNormal)
	p.Legend.TextStyle.Font = sans(12, xfont.WeightNormal)
	p.X.Padding, p.Y.Padding = 0, 0
	p.Title.Text = "The exact sum, as multiples of copying the same float32"
	p.X.Label.Text = "× copy, per input parameter (median; the mark is what is promised)"
	end := 0.0
	var names []plot.Tick
	rs := rows()
	for i, r := range rs {
		y := float64(len(rs) - 1 - i)
		names = append(names, plot.Tick{Value: y, Label: r.name + " "})
		for j, b := range builds() {
			x := ratio(all, b.name, r.sum...).Median
			end = max(end, x)
			if err := bar(p, y+0.2-0.4*float64(j), x, r.most[b.name], colourOf(b.name)); err != nil {
				return err
			}
		}
	}
	for _, b := range builds() {
		swatch, err := plotter.NewPolygon(plotter.XYs{{}, {}, {}})
		if err != nil {
			return err
		}
		swatch.Color, swatch.Width = colourOf(b.name), 0
		p.Legend.Add(b.name, swatch)
	}
	p.Y.Tick.Marker = plot.ConstantTicks(names)
	p.Y.Tick.Length = 0
	p.Y.Min, p.Y.Max, p.X.Min, p.X.Max = -0.7, float64(len(rs))-0.3, 0, end*1.12 // room for the figures behind the bars
	c, err := draw.NewFormattedCanvas(24*vg.Centimeter, vg.Length(len(rs))*1.6*vg.Centimeter+3*vg.Centimeter, strings.TrimPrefix(filepath.Ext(file), "."))
	if err != nil {
		return err
	}
	page := draw.New(c)
	page.SetColor(color.White)
	page.Fill(page.Path())
	const margin = 5 * vg.Millimeter
	p.Draw(draw.Crop(page, margin, -margin, margin, -margin))
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	if _, err := c.WriteTo(f); err != nil {
		_ = f.Close() // the first error counts
		return err
	}
	return f.Close()
}

func bar(p *plot.Plot, y, x, most float64, c color.Color) error {
	const half = 0.17
	poly, err := plotter.NewPolygon(plotter.XYs{{X: 0, Y: y - half}, {X: x, Y: y - half}, {X: x, Y: y + half}, {X: 0, Y: y + half}})
	if err != nil {
		return err
	}
	poly.Color, poly.Width = c, 0
	p.Add(poly)
	if most > 0 {
		line, err := plotter.NewLine(plotter.XYs{{X: most, Y: y - half}, {X: most, Y: y + half}})
		if err != nil {
			return err
		}
		line.Width, line.Color = vg.Points(2), color.Black
		p.Add(line)
	}
	labels, err := plotter.NewLabels(plotter.XYLabels{XYs: plotter.XYs{{X: x, Y: y}}, Labels: []string{fmt.Sprintf("%.2f", x)}})
	if err != nil {
		return err
	}
	for i := range labels.TextStyle {
		labels.TextStyle[i].Font = sans(11, xfont.WeightBold)
		labels.TextStyle[i].YAlign = draw.YCenter
	}
	labels.Offset = vg.Point{X: 2 * vg.Millimeter}
	p.Add(labels)
	return nil
}
