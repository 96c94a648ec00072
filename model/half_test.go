package model_test

import (
	"math"
	"testing"

	"github.com/fedmesh/fedmesh/model"
)

// All halves survive the way there and back, and what lies between two is rounded to the
// nearer, ties to even.
func TestHalf(t *testing.T) {
	for h := range 1 << 16 {
		x := model.HalfToFloat(uint16(h))
		switch exp, frac := h>>10&31, h&1023; {
		case exp == 31 && frac != 0:
			if !math.IsNaN(x) {
				t.Fatalf("%04x is %v", h, x)
			}
			continue
		case exp == 31:
			if !math.IsInf(x, 0) {
				t.Fatalf("%04x is %v", h, x)
			}
			continue
		}
		if got := model.FloatToHalf(x); got != uint16(h) {
			t.Fatalf("%04x is %v, which is %04x", h, x, got)
		}
		next := model.HalfToFloat(uint16(h) + 1)
		if h&0x7fff == 0x7bff {
			next = math.Copysign(65536, x) // where the next would be
		}
		even := uint16(h + h&1)
		middle := (x + next) / 2
		if got := model.FloatToHalf(middle); got != even {
			t.Fatalf("%v lies between %04x and the next, and became %04x", middle, h, got)
		}
		if got := model.FloatToHalf(math.Nextafter(middle, x)); got != uint16(h) {
			t.Fatalf("just below %v became %04x, not %04x", middle, got, h)
		}
		if got := model.FloatToHalf(math.Nextafter(middle, next)); got != uint16(h)+1 {
			t.Fatalf("just above %v became %04x, not %04x", middle, got, h+1)
		}
	}
	for x, want := range map[float64]uint16{math.Inf(1): 0x7c00, math.Inf(-1): 0xfc00, 1e300: 0x7c00, -65520: 0xfc00, 65519.99: 0x7bff, 1e-300: 0, 1: 0x3c00} {
		if got := model.FloatToHalf(x); got != want {
			t.Errorf("%v became %04x, not %04x", x, got, want)
		}
	}
	if got := model.FloatToHalf(math.NaN()); got&0x7c00 != 0x7c00 {
		t.Errorf("NaN became %04x", got)
	}
}
