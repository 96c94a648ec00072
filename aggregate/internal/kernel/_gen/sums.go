package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// merge generates the addition of other accumulators.
func merge() {
	text("mergeAVX2", "func(lo, hi, xlo, xhi *uint64, n int)", "mergeAVX2 adds the accumulators xlo, xhi.")
	lo, hi := Load(Param("lo"), GP64()), Load(Param("hi"), GP64())
	xlo, xhi, n := Load(Param("xlo"), GP64()), Load(Param("xhi"), GP64()), Load(Param("n"), GP64())
	flip, i := ones(signBit), GP64()
	XORQ(i, i)
	at := func(p Register) Mem { return Mem{Base: p, Index: i, Scale: 8} }
	loop("next", n, 4, func() {
		a, s, c := YMM(), YMM(), YMM()
		VPXOR(at(lo), flip, a)
		VPADDQ(at(xlo), a, s)
		VPCMPGTQ(s, a, c)
		VPXOR(flip, s, s)
		VMOVDQU(s, at(lo))
		VMOVDQU(at(hi), a)
		VPADDQ(at(xhi), a, a)
		VPSUBQ(c, a, a)
		VMOVDQU(a, at(hi))
		ADDQ(Imm(4), i)
	})
	VZEROUPPER()
	RET()
}
