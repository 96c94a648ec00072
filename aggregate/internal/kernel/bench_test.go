package kernel_test

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/fedmesh/fedmesh/aggregate/internal/kernel"
)

// The benchmarks run over models of 2M float32 parameters, eight of them, which no cache below the last holds, in
// blocks of 32,768. ns/param is per input parameter; divide by Copy's for the ratios.
const (
	benchBlock  = 32768
	benchBlocks = 64
	benchInputs = 8
)

func benchData() [][]byte {
	r := rand.New(rand.NewPCG(8, 8))
	d := make([][]byte, benchInputs)
	for j := range d {
		d[j] = make([]byte, 4*benchBlock*benchBlocks)
		for i := 0; i < len(d[j]); i += 4 {
			binary.LittleEndian.PutUint32(d[j][i:], math.Float32bits(float32(r.NormFloat64()*0.05)))
		}
	}
	return d
}

func block(p []byte, k, size int) []byte { return p[k*size*benchBlock : (k+1)*size*benchBlock] }

func perParam(b *testing.B, params int) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(params), "ns/param")
}

func BenchmarkCopy(b *testing.B) {
	d, o := benchData(), benchData()
	for b.Loop() {
		for j := range d {
			copy(o[j], d[j])
		}
	}
	perParam(b, benchInputs*benchBlock*benchBlocks)
}

func BenchmarkCheckF32(b *testing.B) {
	d := benchData()
	for b.Loop() {
		for j := range d {
			if kernel.Check32(d[j], f32Limit) >= 0 {
				b.Fatal("refused")
			}
		}
	}
	perParam(b, benchInputs*benchBlock*benchBlocks)
}

func benchFold(b *testing.B, size int, fold func(lo, hi []uint64, p []byte, w int64)) {
	d := benchData()
	if size == 2 { // the upper halves: the same values as bfloat16
		for _, p := range d {
			for i := range len(p) / 4 {
				copy(p[2*i:], p[4*i+2:4*i+4])
			}
			copy(p[len(p)/2:], p[:len(p)/2])
		}
	}
	lo, hi := make([]uint64, benchBlock), make([]uint64, benchBlock)
	blocks := benchBlocks * 4 / size
	for b.Loop() {
		for k := range blocks {
			clear(lo)
			clear(hi)
			for j := range d {
				fold(lo, hi, block(d[j], k, size), int64(1000+j))
			}
		}
	}
	perParam(b, benchInputs*benchBlock*blocks)
}

func BenchmarkFoldF32(b *testing.B) {
	t := kernel.NewTable(0)
	benchFold(b, 4, func(lo, hi []uint64, p []byte, w int64) { kernel.FoldF32(lo, hi, p, w, t) })
}

func BenchmarkFoldBF16(b *testing.B) {
	t := kernel.NewTable(0)
	benchFold(b, 2, func(lo, hi []uint64, p []byte, w int64) { kernel.FoldBF16(lo, hi, p, w, t) })
}

func BenchmarkFoldF16(b *testing.B) { benchFold(b, 2, kernel.FoldF16) }

func BenchmarkFoldF64(b *testing.B) {
	benchFold(b, 8, func(lo, hi []uint64, p []byte, w int64) { kernel.FoldF64(lo, hi, p, w, 0) })
}

func BenchmarkFoldI64(b *testing.B) {
	benchFold(b, 8, func(lo, hi []uint64, p []byte, w int64) {
		kernel.FoldInt(lo, hi, p, w, kernel.Int{Size: 8, Signed: true, Max: math.MaxInt64})
	})
}

// benchSums returns the sums of eight models' first block.
func benchSums() (lo, hi []uint64) {
	t, d := kernel.NewTable(0), benchData()
	lo, hi = make([]uint64, benchBlock), make([]uint64, benchBlock)
	for j := range d {
		kernel.FoldF32(lo, hi, block(d[j], 0, 4), int64(1000+j), t)
	}
	return lo, hi
}

func BenchmarkFinalF32(b *testing.B) {
	lo, hi := benchSums()
	dst := make([]byte, 4*benchBlock)
	d := kernel.NewDivisor(8028)
	for b.Loop() {
		kernel.FinalF32(dst, lo, hi, d, 0, f32Limit)
	}
	perParam(b, benchBlock)
}

// BenchmarkFinalF32Ties averages two models of equal weight: two sums in five are half way between two results.
func BenchmarkFinalF32Ties(b *testing.B) {
	t, p := kernel.NewTable(0), benchData()
	lo, hi := make([]uint64, benchBlock), make([]uint64, benchBlock)
	for j := range 2 {
		kernel.FoldF32(lo, hi, block(p[j], 0, 4), 500, t)
	}
	dst := make([]byte, 4*benchBlock)
	d := kernel.NewDivisor(1000)
	for b.Loop() {
		kernel.FinalF32(dst, lo, hi, d, 0, f32Limit)
	}
	perParam(b, benchBlock)
}

func BenchmarkFinalF64(b *testing.B) {
	lo, hi := benchSums()
	dst := make([]byte, 8*benchBlock)
	d := kernel.NewDivisor(8028)
	for b.Loop() {
		kernel.FinalF64(dst, lo, hi, d, 0, f64Limit)
	}
	perParam(b, benchBlock)
}

func BenchmarkMerge(b *testing.B) {
	lo, hi := benchSums()
	xlo, xhi := benchSums()
	for b.Loop() {
		kernel.Merge(lo, hi, xlo, xhi)
	}
	perParam(b, benchBlock)
}

func BenchmarkPack(b *testing.B) {
	lo, hi := benchSums()
	k := kernel.PackingOf(lo, hi)
	p := make([]byte, int(k.Width)*benchBlock)
	for b.Loop() {
		kernel.Pack(p, lo, hi, kernel.PackingOf(lo, hi))
	}
	perParam(b, benchBlock)
}

func BenchmarkMergePacked(b *testing.B) {
	lo, hi := benchSums()
	k := kernel.PackingOf(lo, hi)
	p := make([]byte, int(k.Width)*benchBlock)
	kernel.Pack(p, lo, hi, k)
	for b.Loop() {
		if !kernel.MergePacked(lo, hi, p, k) {
			b.Fatal("refused")
		}
	}
	perParam(b, benchBlock)
}
