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
