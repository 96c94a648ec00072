// Package svg draws the benchmarks' pictures as SVG that reads well on light and
// on dark ground.
//
//	p := svg.New("Rounds", "of two systems", 300, 64, "one", "other")
//	xs, ys := svg.Scale{High: 10, Size: svg.Wide}, svg.Scale{High: 50, Size: p.Height}
//	p.Up(ys, "rounds", label)
//	p.Along(xs, "seconds", label)
//	p.Line("one", [][2]float64{{xs.At(0), ys.At(0)}, {xs.At(9), ys.At(40)}})
//	p.Key(0, "one", "the first")
//	b := p.Done()
//
// A Picture belongs to one goroutine.
package svg
