package model

import "math"

// HalfToFloat returns the value of an F16, an IEEE binary16; all are exact in float64.
func HalfToFloat(h uint16) float64 {
	exp, frac := int(h>>10&0x1f), float64(h&0x3ff)
	var f float64
	switch exp {
	case 0:
		f = math.Ldexp(frac, -24)
	case 0x1f:
		f = math.Inf(1)
		if frac != 0 {
			f = math.NaN()
		}
	default:
		f = math.Ldexp(1024+frac, exp-25)
	}
	return math.Copysign(f, 1-2*float64(h>>15))
}

// FloatToHalf rounds to an F16, ties to even. What is too large, infinite or NaN
// becomes infinite.
func FloatToHalf(f float64) uint16 {
	var sign uint16
	if math.Signbit(f) {
		sign = 0x8000
	}
	f = math.Abs(f)
	if !(f < 65520) {
		return sign | 0x7c00
	}
	_, exp := math.Frexp(f) // f = frac·2^exp, frac in [1/2, 1)
	exp = max(exp, -13)
	m := uint16(math.RoundToEven(math.Ldexp(f, 11-exp))) // up to 2048, which carries into the exponent
	if m < 1024 {
		return sign | m
	}
	return sign | (uint16(exp+13)<<10 + m)
}
