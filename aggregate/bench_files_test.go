//go:build unix

package aggregate_test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/fedmesh/fedmesh/aggregate"
)

// The benchmarks in this file average the same models from files in the page cache, read with pread as peers do or mapped into
// memory for the round, by one goroutine or by two. Least of several runs on two cores, ns per parameter: pread 1.05 and with two goroutines
// 0.55, a mapping 0.93 and 0.51; with other work on the cores, as peers have, pread 1.05 and the mapping 1.13 with two, for
// page faults take turns. So there is a tenth to gain at best, and a mapping dies with the process when a file is cut
// short or the disk fails under it, where pread returns an error: pread it is.

func benchFiles(b *testing.B, goroutines int, run func(s *aggregate.Spec, ws *aggregate.Workspace, files []*os.File, from, to int64) error) {
	s, _, models := benchTerms(b)
	dir := b.TempDir()
	var files []*os.File
	for _, p := range models {
		f, err := os.Create(filepath.Join(dir, "model"))
		if err != nil {
			b.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		if err := os.Remove(f.Name()); err != nil {
			b.Fatal(err)
		}
		if _, err := f.Write(p); err != nil {
			b.Fatal(err)
		}
		files = append(files, f)
	}
	wss := make([]aggregate.Workspace, goroutines)
	for b.Loop() {
		var g errgroup.Group
		i := 0
		for from, to := range s.Split(goroutines) {
			ws := &wss[i]
			i++
			g.Go(func() error { return run(s, ws, files, from, to) })
		}
		if err := g.Wait(); err != nil {
			b.Fatal(err)
		}
	}
	perParam(b)
}

func pread(s *aggregate.Spec, ws *aggregate.Workspace, files []*os.File, from, to int64) error {
	var terms []aggregate.Term
	for j, f := range files {
		terms = append(terms, aggregate.Term{Source: f, Weight: int64(1000 + j)})
	}
	_, err := s.Mean(context.Background(), ws, from, to, terms, nil, 8028, io.Discard)
	return err
}

// mapped folds from the mapping, without a copy.
func mapped(s *aggregate.Spec, _ *aggregate.Workspace, files []*os.File, from, to int64) error {
	var maps [][]byte
	for _, f := range files {
		p, err := syscall.Mmap(int(f.Fd()), 0, int(s.Layout().Size()), syscall.PROT_READ, syscall.MAP_SHARED)
		if err != nil {
			return err
		}
		defer func() { _ = syscall.Munmap(p) }()
		maps = append(maps, p)
	}
	var a aggregate.Acc
	dst := make([]byte, 4*aggregate.Block)
	for span := range s.Blocks(from, to) {
		a.Reset(int(span.Count))
		for j, p := range maps {
			a.AddWeighted(s, span.Tensor, p[span.Offset:span.Offset+4*span.Count], int64(1000+j))
		}
		a.Finalise(s, span.Tensor, span.First, 8028, dst[:4*span.Count])
	}
	return nil
}

func BenchmarkPread(b *testing.B) { benchFiles(b, 1, pread) }

func BenchmarkPreadTwo(b *testing.B) { benchFiles(b, 2, pread) }

func BenchmarkMmap(b *testing.B) { benchFiles(b, 1, mapped) }

func BenchmarkMmapTwo(b *testing.B) { benchFiles(b, 2, mapped) }
