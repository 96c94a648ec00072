package main

import (
	"encoding/binary"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fedmesh/fedmesh/model"
)

func floats(vs ...float32) (b []byte) {
	for _, v := range vs {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	return b
}

// write makes a client's update, or a model.
func write(t *testing.T, path string, examples int64, weights, biases []float32) {
	t.Helper()
	names := [2]string{"0", "1"}
	ts := []model.Tensor{}
	data := map[string][]byte{}
	if examples > 0 {
		names = [2]string{"arr_0", "arr_1"}
		ts = append(ts, model.Tensor{Name: "examples", DType: model.I64})
		data["examples"] = binary.LittleEndian.AppendUint64(nil, uint64(examples))
	}
	ts = append(ts, model.Tensor{Name: names[0], DType: model.F32, Shape: []int64{int64(len(weights))}},
		model.Tensor{Name: names[1], DType: model.F32, Shape: []int64{int64(len(biases))}})
	data[names[0]], data[names[1]] = floats(weights...), floats(biases...)
	if err := writeNPZ(path, data, ts...); err != nil {
		t.Fatal(err)
	}
}

// The numbers are those with which FEDn's own reducer says 6.625.
func TestDistance(t *testing.T) {
	s := &scene{dir: t.TempDir()}
	write(t, s.updateOf("x", 1), 10, []float32{1, 1}, []float32{0.5})
	write(t, s.updateOf("y", 1), 30, []float32{4, 4}, []float32{0.5})
	write(t, s.updateOf("z", 1), 5, []float32{10, 10}, []float32{0.5})
	us, err := s.updates(1, []string{"x", "y", "z"})
	if err != nil {
		t.Fatal(err)
	}
	if m := exactMean(us); m[0][0] != 4 || m[0][1] != 4 || m[1][0] != 0.5 {
		t.Errorf("mean %v", m)
	}
	for value, want := range map[float32]float64{4: 0, 6.625: 2.625, math.Nextafter32(4, 5): math.Exp2(-21)} {
		write(t, filepath.Join(s.dir, "made.npz"), 0, []float32{4, value}, []float32{0.5})
		d, err := s.distance("made.npz", us)
		if err != nil || d.abs != want || d.ulps != want*math.Exp2(20) { // the largest value is 10
			t.Errorf("%v: %+v, %v", value, d, err)
		}
	}
	write(t, filepath.Join(s.dir, "made.npz"), 0, []float32{4}, []float32{0.5})
	if _, err := s.distance("made.npz", us); err == nil {
		t.Error("a model of another size was compared")
	}
	if _, err := s.updates(2, []string{"x"}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

func TestFaults(t *testing.T) {
	good := func() *report {
		r := &report{}
		for i := range rounds {
			r.Mesh = append(r.Mesh, roundResult{Round: i + 1, Peers: map[string]string{"a": "1", "b": "1"}, Made: map[string]string{"north": "1"}, Ulps: 0.9})
		}
		return r
	}
	if f := good().faults(); len(f) > 0 {
		t.Errorf("%v", f)
	}
	for says, spoil := range map[string]func(r *report){
		"different models": func(r *report) { r.Mesh[3].Made["north"] = "2" },
		"ulps":             func(r *report) { r.Mesh[1].Ulps = 1.6 },
		"rounds over":      func(r *report) { r.Mesh = r.Mesh[1:] },
	} {
		r := good()
		spoil(r)
		if f := r.faults(); len(f) != 1 || !strings.Contains(f[0], says) {
			t.Errorf("%s: %v", says, f)
		}
	}
}

func TestTimes(t *testing.T) {
	r := report{Mesh: []roundResult{
		{Round: 1, PushMS: map[string]float64{"x": 900}},
		{Round: 2, PushMS: map[string]float64{"x": 30, "y": 10}, Retried: []string{"x"}},
	}}
	r.times()
	if r.RetryMS != 30 || r.CalmMS != 10 {
		t.Errorf("%+v", r)
	}
}

// What a carried model is held against.
func TestJudgeCarried(t *testing.T) {
	good := func() []carried {
		return []carried{
			{DType: "float16", Params: 100, Round: 1, Resident: 30e6, Returned: "float16", Counted: 1},
			{DType: "float16", Params: 1000, Round: 1, Resident: 50e6, Returned: "float16", Counted: 1},
			{DType: "int64", Params: 100, Round: 1, Resident: 90e6, Returned: "int64", Counted: 1},
		}
	}
	if err := judgeCarried(good()); err != nil {
		t.Error(err)
	}
	for says, change := range map[string]func(*carried){
		"came back as float64":        func(r *carried) { r.Returned = "float64" },
		"3 values are not":            func(r *carried) { r.Wrong = 3 },
		"the mesh has counted 0":      func(r *carried) { r.Counted = 0 },
		"the gateway took 2000000000": func(r *carried) { r.Resident = 2e9 },
	} {
		rows := good()
		change(&rows[1])
		if err := judgeCarried(rows); err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "float16, 1000 parameters, round 1") {
			t.Errorf("%s: %v", says, err)
		}
	}
}
