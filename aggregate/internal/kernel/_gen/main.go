// Command _gen writes the AVX2 kernels. They take pointers and a number of elements n, a multiple of
// step, and touch nothing beyond; the Go code around them sees to the rest. Four elements are
// worked on at a time, each in a lane of 64 bits.
package main

import (
	"math"

	"github.com/mmcloughlin/avo/attr"
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

func main() {
	ConstraintExpr("amd64,!purego")
	fold("foldF32AVX2", float32s)
	fold("foldBF16AVX2", bfloat16s)
	fold("foldF16AVX2", float16s)
	largest("largest32AVX2", 4)
	largest("largest16AVX2", 2)
	merge()
	bounds()
	pack()
	mergePacked()
	final("finalF32AVX2", 23, 4)
	final("finalBF16AVX2", 7, 2)
	Generate()
}

// text begins a function.
func text(name, signature, doc string) {
	TEXT(name, attr.NOSPLIT, signature)
	Pragma("noescape")
	Doc(doc)
}

// ones returns a vector of one constant.
func ones(x uint64) VecVirtual {
	r, v := GP64(), YMM()
	if x == math.MaxUint64 {
		VPCMPEQD(v, v, v)
		return v
	}
	MOVQ(U64(x), r)
	VMOVQ(r, v.AsX())
	VPBROADCASTQ(v.AsX(), v)
	return v
}

// constant returns a vector of one constant in memory, for those that registers are too few for.
func constant(name string, x uint64) Mem {
	m := GLOBL(name, attr.RODATA|attr.NOPTR)
	for i := range 4 {
		DATA(8*i, U64(x))
	}
	return m
}

// every returns a vector of one argument.
func every(param string) VecVirtual {
	v := YMM()
	r := Load(Param(param), GP64())
	VMOVQ(r, v.AsX())
	VPBROADCASTQ(v.AsX(), v)
	return v
}

// loop runs body until the counter n, a multiple of step, is 0.
func loop(label string, n Register, step int, body func()) {
	TESTQ(n, n)
	JZ(LabelRef(label + "End"))
	Label(label)
	body()
	SUBQ(Imm(uint64(step)), n)
	JNZ(LabelRef(label))
	Label(label + "End")
}

const signBit = 1 << 63
