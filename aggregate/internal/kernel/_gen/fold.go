package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

type dtype int

const (
	float32s dtype = iota
	bfloat16s
	float16s
)

// fold generates the addition of w·x, see the Go code for what that means. An element's magnitude times the weight's,
// below 2^62, is shifted by how far its exponent is above the accumulator's least bit: variable shifts give 0 for counts of
// 64 and more, so one to the left, one to the right and one for the upper word leave what they should.
//
// A - x is ^(^A + x), so that both signs need one addition; the sign bit flipped along with it turns the signed comparison, the only
// one there is, into the unsigned one that finds the carry.
func fold(name string, t dtype) {
	text(name, "func(lo, hi *uint64, p *byte, n int, u, neg, least uint64)",
		name+" adds u times each element of p, or subtracts it if neg is all ones; least is the exponent, with its bias, of the number whose last bit is the accumulator's.")
	lo, hi := Load(Param("lo"), GP64()), Load(Param("hi"), GP64())
	p, n := Load(Param("p"), GP64()), Load(Param("n"), GP64())
	u, neg, least := every("u"), every("neg"), every("least")
	top := YMM() // the exponent whose upper word is the product itself
	VPADDQ(ones(64), least, top)

	f := folder{t: t, u: u, neg: neg, least: least, top: top, flip: ones(signBit)}
	switch t {
	case float16s:
		f.abs, f.frac, f.one = ones(0x7fff), ones(0x3ff), ones(0x400)
	default:
		f.abs, f.frac, f.one = ones(0x7fffffff), ones(0x7fffff), ones(0x800000)
	}

	// Weights from 2^32 on take a second multiplication, negative ones an inversion: rare, so apart.
	small := GP64()
	high := Load(Param("u"), GP64())
	SHRQ(Imm(32), high)
	MOVQ(high, small)
	ORQ(Load(Param("neg"), GP64()), small)
	JNZ(LabelRef("any"))
	loop("small", n, 4, func() {
		f.step(lo, hi, p)
	})
	VZEROUPPER()
	RET()

	Label("any")
	f.uhigh = YMM()
	VPSRLQ(Imm(32), u, f.uhigh)
	loop("large", n, 4, func() {
		f.step(lo, hi, p)
	})
	VZEROUPPER()
	RET()
}

type folder struct {
	t                dtype
	u, uhigh, neg    VecVirtual
	least, top, flip VecVirtual
	abs, frac, one   VecVirtual
}

func (f *folder) step(lo, hi, p Register) {
	x, sign, e, m, a := YMM(), YMM(), YMM(), YMM(), YMM()
	size := 2
	switch f.t {
	case float32s:
		size = 4
		VPMOVSXDQ(Mem{Base: p}, x)
	case bfloat16s:
		VPMOVSXWQ(Mem{Base: p}, x)
		VPSLLQ(Imm(16), x, x)
	case float16s:
		VPMOVSXWQ(Mem{Base: p}, x)
	}
	VPSRAD(Imm(31), x, sign)
	VPAND(f.abs, x, e)
	VPAND(f.frac, x, m)
	if f.t == float16s {
		VPSRLQ(Imm(10), e, e)
		none := YMM()
		VPXOR(none, none, none)
		VPCMPEQQ(none, e, none) // subnormal numbers have no implicit bit, and the exponent of the smallest normal ones
		VPSUBQ(none, e, e)
		VPANDN(f.one, none, none)
		VPOR(none, m, m)
		VPSLLQ(Imm(5), m, m)
	} else {
		VPSRLQ(Imm(23), e, e)
		VPOR(f.one, m, m)
	}

	prod := YMM()
	VPMULUDQ(f.u, m, prod)
	if f.uhigh != nil {
		VPMULUDQ(f.uhigh, m, m)
		VPSLLQ(Imm(32), m, m)
		VPADDQ(m, prod, prod)
		VPXOR(f.neg, sign, sign)
	}

	up, down, l, h := YMM(), YMM(), YMM(), YMM()
	VPSUBQ(f.least, e, up)
	VPSLLVQ(up, prod, l)
	if f.t != float16s {
		VPSUBQ(e, f.least, down)
		VPSRLVQ(down, prod, down)
		VPOR(down, l, l)
	}
	VPSUBQ(e, f.top, up)
	VPSRLVQ(up, prod, h)

	flip, s, c := YMM(), YMM(), YMM()
	VPXOR(f.flip, sign, flip)
	VPXOR(Mem{Base: lo}, flip, a)
	VPADDQ(l, a, s)
	VPCMPGTQ(s, a, c)
	VPXOR(flip, s, s)
	VMOVDQU(s, Mem{Base: lo})
	VPXOR(Mem{Base: hi}, sign, a)
	VPADDQ(h, a, a)
	VPSUBQ(c, a, a)
	VPXOR(sign, a, a)
	VMOVDQU(a, Mem{Base: hi})
	ADDQ(Imm(uint64(4*size)), p)
	ADDQ(Imm(32), lo)
	ADDQ(Imm(32), hi)
}
