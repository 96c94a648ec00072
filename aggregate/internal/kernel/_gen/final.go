package main

import (
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
)

// final generates the division of sums by a total, rounded to a float of the given bits of mantissa and bytes.
//
// The sum becomes a float64, its four parts of 32 bits each put into the mantissa of a constant that is subtracted again, and is
// multiplied by the inverse. Six roundings leave an error of a few units in the last place; where the result is
// within doubt of half way between two results, or out of range, a bit is set in todo and exact integer
// arithmetic decides. So no rounding shows in any result.
func final(name string, mantissa, size int) {
	text(name, "func(dst *byte, lo, hi *uint64, todo *byte, n int, inverse, limit uint64)",
		name+" writes sum·inverse, rounded, and for each four of them a byte with a bit set where the result is in doubt or not below limit.")
	dst, todo, n := Load(Param("dst"), GP64()), Load(Param("todo"), GP64()), Load(Param("n"), GP64())
	lo, hi := Load(Param("lo"), GP64()), Load(Param("hi"), GP64())
	inverse := every("inverse")
	below := YMM() // the largest bits in range
	VPADDQ(ones(math.MaxUint64), every("limit"), below)

	drop := 52 - mantissa
	const doubt = 1 << 9 // units in the last place, many more than there can be
	half := uint64(1) << (drop - 1)
	// What is subtracted moves the bias from float64's to float32's, which bfloat16 shares.
	rebias := uint64(1023-127) << mantissa
	mhalf := constant(name+"Half", half)
	mdoubt := constant(name+"Doubt", doubt)
	mnear := constant(name+"Near", (1<<drop-1)&^(2*doubt-1))
	mbias := constant(name+"Bias", rebias)

	zero := YMM()
	VPXOR(zero, zero, zero)
	// The constants of the parts, from the lowest on, and what is taken away again.
	power := func(e int) uint64 { return math.Float64bits(math.Ldexp(1, e)) }
	c0, c1, c2, c3 := ones(power(52)), ones(power(84)), ones(power(116)), ones(power(148))
	cl := constant(name+"Low", math.Float64bits(math.Ldexp(1, 84)+math.Ldexp(1, 52)))
	ch := constant(name+"High", math.Float64bits(math.Ldexp(1, 148)+math.Ldexp(1, 116)))

	loop("next", n, 4, func() {
		l, h, sign, t := YMM(), YMM(), YMM(), YMM()
		VMOVDQU(Mem{Base: hi}, h)
		VPCMPGTQ(h, zero, sign)
		VPXOR(Mem{Base: lo}, sign, l)
		VPXOR(sign, h, h)
		VPSUBQ(sign, l, l)
		VPCMPEQQ(zero, l, t)
		VPAND(sign, t, t)
		VPSUBQ(t, h, h)

		l1, h1 := YMM(), YMM()
		VPSRLQ(Imm(32), l, l1)
		VPOR(c1, l1, l1)
		VPBLENDD(Imm(0xaa), c0, l, l)
		VPSRLQ(Imm(32), h, h1)
		VPOR(c3, h1, h1)
		VPBLENDD(Imm(0xaa), c2, h, h)
		VSUBPD(cl, l1, l1)
		VADDPD(l1, l, l)
		VSUBPD(ch, h1, h1)
		VADDPD(h1, h, h)
		VADDPD(h, l, l)
		VMULPD(inverse, l, l)

		x, d := YMM(), YMM()
		VPADDQ(mhalf, l, x)
		VPADDQ(mdoubt, x, d)
		VPAND(mnear, d, d)
		VPCMPEQQ(zero, d, d)
		VPSRLQ(Imm(uint64(drop)), x, x)
		VPSUBQ(mbias, x, x)
		VPCMPEQQ(zero, l, t)
		VPANDN(x, t, x)
		VPCMPGTQ(below, x, t)
		VPOR(t, d, d)
		mask := GP32()
		VMOVMSKPD(d, mask)
		MOVB(mask.As8(), Mem{Base: todo})

		VPSLLD(Imm(31), sign, sign)
		if size == 2 {
			VPSRLD(Imm(16), sign, sign)
		}
		VPOR(sign, x, x)
		upper := XMM()
		VEXTRACTI128(Imm(1), x, upper)
		VSHUFPS(Imm(0x88), upper, x.AsX(), x.AsX())
		if size == 4 {
			VMOVDQU(x.AsX(), Mem{Base: dst})
		} else {
			VPACKUSDW(x.AsX(), x.AsX(), x.AsX())
			VMOVQ(x.AsX(), Mem{Base: dst})
		}
		ADDQ(Imm(uint64(4*size)), dst)
		ADDQ(Imm(32), lo)
		ADDQ(Imm(32), hi)
		ADDQ(Imm(1), todo)
	})
	VZEROUPPER()
	RET()
}
