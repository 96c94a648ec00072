package aggregate_test

import (
	"context"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/fedmesh/fedmesh/aggregate"
	"github.com/fedmesh/fedmesh/model"
)

// The benchmarks average eight models of 4M float32 parameters that are in memory. ns/param is per input parameter;
// divide by Copy's for the ratios.
const benchParams, benchModels = 4 << 20, 8

func benchTerms(b *testing.B) (*aggregate.Spec, []aggregate.Term, [][]byte) {
	l := mustLayout(b, model.Tensor{Name: "w", DType: model.F32, Shape: []int64{benchParams}})
	r := rand.New(rand.NewPCG(6, 6))
	xs := make([]float32, benchParams)
	var terms []aggregate.Term
	var files [][]byte
	for j := range benchModels {
		for i := range xs {
			xs[i] = float32(r.NormFloat64() * 0.05)
		}
		files = append(files, f32File(l, xs...))
		terms = append(terms, aggregate.Term{Source: reader(files[j]), Weight: int64(1000 + j)})
	}
	return mustSpec(b, l, nil), terms, files
}

func perParam(b *testing.B) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/(benchParams*benchModels), "ns/param")
}

func BenchmarkCopy(b *testing.B) {
	_, _, files := benchTerms(b)
	dst := make([]byte, len(files[0]))
	for b.Loop() {
		for _, f := range files {
			copy(dst, f)
		}
	}
	perParam(b)
}

func BenchmarkMean(b *testing.B) {
	s, terms, _ := benchTerms(b)
	var ws aggregate.Workspace
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Mean(context.Background(), &ws, 0, s.Elements(), terms, nil, 8028, io.Discard); err != nil {
			b.Fatal(err)
		}
	}
	perParam(b)
}

func BenchmarkPartial(b *testing.B) {
	s, terms, _ := benchTerms(b)
	var ws aggregate.Workspace
	b.ReportAllocs()
	for b.Loop() {
		if err := s.Partial(context.Background(), &ws, 0, s.Elements(), terms, io.Discard); err != nil {
			b.Fatal(err)
		}
	}
	perParam(b)
}

// benchSum returns a block of the sums of the models.
func benchSum(b *testing.B) *aggregate.Acc {
	s, _, files := benchTerms(b)
	a := new(aggregate.Acc)
	a.Reset(aggregate.Block)
	at := len(s.Layout().Header())
	for j, f := range files {
		a.AddWeighted(s, 0, f[at:at+4*aggregate.Block], int64(1000+j))
	}
	return a
}

// BenchmarkEncode and BenchmarkDecode tell how fast sums are encoded, and are decoded and added, in bytes of the float32
// elements that they are of.
func BenchmarkEncode(b *testing.B) {
	a := benchSum(b)
	var p []byte
	b.SetBytes(4 * aggregate.Block)
	for b.Loop() {
		p = a.Append(p[:0])
	}
	b.ReportMetric(float64(len(p))/aggregate.Block, "bytes/param")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/aggregate.Block, "ns/param")
}

func BenchmarkDecode(b *testing.B) {
	a := benchSum(b)
	p := a.Append(nil)
	b.SetBytes(4 * aggregate.Block)
	for b.Loop() {
		if err := a.MergeEncoded(p); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/aggregate.Block, "ns/param")
}
