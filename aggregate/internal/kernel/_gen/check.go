package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// largest generates the search for the largest magnitude; n counts blocks of 128 bytes.
func largest(name string, size int) {
	text(name, "func(p *byte, n int) uint32",
		fmt.Sprintf("%s returns the largest magnitude, as bits without the sign, of %d-bit elements in n·128 bytes.", name, 8*size))
	p, n := Load(Param("p"), GP64()), Load(Param("n"), GP64())
	abs, larger := ones(0x7fffffff_7fffffff), VPMAXUD
	if size == 2 {
		abs, larger = ones(0x7fff7fff_7fff7fff), VPMAXUW
	}
	var m [4]VecVirtual
	for i := range m {
		m[i] = YMM()
		VPXOR(m[i], m[i], m[i])
	}
	loop("next", n, 1, func() {
		for i := range m {
			x := YMM()
			VPAND(Mem{Base: p, Disp: 32 * i}, abs, x)
			larger(x, m[i], m[i])
		}
		ADDQ(Imm(128), p)
	})
	larger(m[1], m[0], m[0])
	larger(m[3], m[2], m[2])
	larger(m[2], m[0], m[0])
	a, b := m[0].AsX(), XMM()
	VEXTRACTI128(Imm(1), m[0], b)
	fold := func() { larger(b, a, a) }
	fold()
	VPSHUFD(Imm(0x4e), a, b)
	fold()
	VPSHUFD(Imm(0xb1), a, b)
	fold()
	out := GP32()
	if size == 2 {
		VPSRLD(Imm(16), a, b)
		fold()
	}
	VMOVD(a, out)
	if size == 2 {
		MOVWLZX(out.As16(), out)
	}
	VZEROUPPER()
	Store(out, ReturnIndex(0))
	RET()
}
