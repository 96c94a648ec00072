package svg_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/fedmesh/fedmesh/benchmarks/svg"
)

func TestPicture(t *testing.T) {
	p := svg.New("a < b", "of two", 100, 64, "one", "other")
	xs, ys := svg.Scale{High: 10, Size: svg.Wide}, svg.Scale{Low: 0.01, High: 10, Log: true, Size: p.Height}
	label := func(x float64) string { return fmt.Sprint(x) }
	p.Up(ys, "up", label)
	p.Along(xs, "along", label)
	p.Line("one", [][2]float64{{0, 0}, {0.1, 0.1}, {5, 5}, {5.1, 5.1}})
	p.Key(0, "one", "the first")
	p.Marks([]string{"<g/>", "<g/>"})
	out := p.Done()
	d := xml.NewDecoder(bytes.NewReader(out))
	for {
		_, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	for _, want := range []string{"a &lt; b", ".other{stroke:", ".fone{fill:", "prefers-color-scheme:dark", "<g/><g/>", "M84.0 192.0L89.0 187.0L89.1 186.9"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
}

func TestScale(t *testing.T) {
	s := svg.Scale{High: 3.2, Size: 640}
	if got := s.At(1.6); got != 320 {
		t.Errorf("the middle is at %v", got)
	}
	if got := s.Ticks(); !slices.Equal(got, []float64{0, 0.5, 1, 1.5, 2, 2.5, 3}) {
		t.Errorf("ticks %v", got)
	}
	s = svg.Scale{Low: 0.1, High: 10, Log: true, Size: 100}
	if got := s.At(0); got != 0 {
		t.Errorf("nothing is at %v", got)
	}
	if got := s.At(1); got < 49.9 || got > 50.1 {
		t.Errorf("the middle is at %v", got)
	}
	if got := s.Ticks(); len(got) != 3 || got[2] != 10 {
		t.Errorf("ticks %v", got)
	}
}
