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

// bounds generates the search for the bits that sums use.
func bounds() {
	text("boundsAVX2", "func(lo, hi *uint64, n int) (anyLo, anyHi, foldLo, foldHi uint64)",
		"boundsAVX2 returns the bits that are set in any sum, and those that are set in any sum inverted if negative.")
	lo, hi, n := Load(Param("lo"), GP64()), Load(Param("hi"), GP64()), Load(Param("n"), GP64())
	acc := [4]VecVirtual{}
	for i := range acc {
		acc[i] = YMM()
		VPXOR(acc[i], acc[i], acc[i])
	}
	loop("next", n, 4, func() {
		l, h, s := YMM(), YMM(), YMM()
		VMOVDQU(Mem{Base: lo}, l)
		VMOVDQU(Mem{Base: hi}, h)
		VPOR(l, acc[0], acc[0])
		VPOR(h, acc[1], acc[1])
		VPSRAD(Imm(31), h, s)
		VPSHUFD(Imm(0xf5), s, s)
		VPXOR(s, l, l)
		VPXOR(s, h, h)
		VPOR(l, acc[2], acc[2])
		VPOR(h, acc[3], acc[3])
		ADDQ(Imm(32), lo)
		ADDQ(Imm(32), hi)
	})
	for i, v := range acc {
		storeAny(v, i)
	}
	VZEROUPPER()
	RET()
}

// storeAny returns the bits that are set in any lane.
func storeAny(v VecVirtual, result int) {
	a, b, r := v.AsX(), XMM(), GP64()
	VEXTRACTI128(Imm(1), v, b)
	VPOR(b, a, a)
	VPSHUFD(Imm(0x4e), a, b)
	VPOR(b, a, a)
	VMOVQ(a, r)
	Store(r, ReturnIndex(result))
}
