package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// count returns a shift count.
func count(param string) Register {
	v := XMM()
	VMOVQ(Load(Param(param), GP64()), v)
	return v
}

// rest returns a shift count of 64 less another. Counts of 64 shift everything out.
func rest(param string) Register {
	r, v := GP64(), XMM()
	MOVQ(U64(64), r)
	SUBQ(Load(Param(param), GP64()), r)
	VMOVQ(r, v)
	return v
}

// pack generates the packing of sums into at most eight bytes each. A shuffle makes one piece of two of them,
// which is stored with what is behind it in the register: the next one overwrites that.
func pack() {
	text("packAVX2", "func(p *byte, lo, hi *uint64, n int, shift uint64, step int, order *[16]byte)",
		"packAVX2 writes sums shifted right by shift < 64, two every step bytes, in the given order of their bytes; it writes 16 bytes for the last two.")
	p, lo, hi := Load(Param("p"), GP64()), Load(Param("lo"), GP64()), Load(Param("hi"), GP64())
	n, step := Load(Param("n"), GP64()), Load(Param("step"), GP64())
	down, up, order := count("shift"), rest("shift"), YMM()
	VBROADCASTI128(Mem{Base: Load(Param("order"), GP64())}, order)
	loop("next", n, 4, func() {
		l, h := YMM(), YMM()
		VMOVDQU(Mem{Base: lo}, l)
		VPSRLQ(down, l, l)
		VMOVDQU(Mem{Base: hi}, h)
		VPSLLQ(up, h, h)
		VPOR(h, l, l)
		VPSHUFB(order, l, l)
		VMOVDQU(l.AsX(), Mem{Base: p})
		VEXTRACTI128(Imm(1), l, Mem{Base: p, Index: step, Scale: 1})
		LEAQ(Mem{Base: p, Index: step, Scale: 2}, p)
		ADDQ(Imm(32), lo)
		ADDQ(Imm(32), hi)
	})
	VZEROUPPER()
	RET()
}

// mergePacked generates the reverse, added to other sums.
func mergePacked() {
	text("mergePackedAVX2", "func(lo, hi *uint64, p *byte, n int, unused, shift uint64, step int, order *[16]byte) (all, fold uint64)",
		"mergePackedAVX2 adds sums of two every step bytes, brought to the top of a word by order, unused bits of which they do not have, and shifted left by shift < 64; it reads 16 bytes for the last two. It returns the bits set in any word, and in any sum inverted if negative.")
	lo, hi, p := Load(Param("lo"), GP64()), Load(Param("hi"), GP64()), Load(Param("p"), GP64())
	n, step := Load(Param("n"), GP64()), Load(Param("step"), GP64())
	unused, up, down, order := count("unused"), count("shift"), rest("shift"), YMM()
	VBROADCASTI128(Mem{Base: Load(Param("order"), GP64())}, order)
	flip, zero, all, fold := ones(signBit), YMM(), YMM(), YMM()
	VPXOR(zero, zero, zero)
	VPXOR(all, all, all)
	VPXOR(fold, fold, fold)
	loop("next", n, 4, func() {
		x, sign, m := YMM(), YMM(), YMM()
		VMOVDQU(Mem{Base: p}, x.AsX())
		VINSERTI128(Imm(1), Mem{Base: p, Index: step, Scale: 1}, x, x)
		VPSHUFB(order, x, x)
		VPOR(x, all, all)
		VPCMPGTQ(x, zero, sign)
		VPXOR(sign, x, m)
		VPSRLQ(unused, m, m)
		VPOR(m, fold, fold)
		VPXOR(sign, m, x)
		VPSLLQ(up, x, x)
		VPSRLQ(down, m, m)
		VPXOR(sign, m, m)

		a, s, c := YMM(), YMM(), YMM()
		VPXOR(Mem{Base: lo}, flip, a)
		VPADDQ(x, a, s)
		VPCMPGTQ(s, a, c)
		VPXOR(flip, s, s)
		VMOVDQU(s, Mem{Base: lo})
		VPADDQ(Mem{Base: hi}, m, m)
		VPSUBQ(c, m, m)
		VMOVDQU(m, Mem{Base: hi})
		LEAQ(Mem{Base: p, Index: step, Scale: 2}, p)
		ADDQ(Imm(32), lo)
		ADDQ(Imm(32), hi)
	})
	storeAny(all, 0)
	storeAny(fold, 1)
	VZEROUPPER()
	RET()
}
