package digits_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/fedmesh/fedmesh/examples/mnist/digits"
)

func TestReadIdx(t *testing.T) {
	good := []byte{0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6}
	dims, data, err := digits.ReadIdx(bytes.NewReader(good))
	if err != nil {
		t.Fatal(err)
	}
	if len(dims) != 2 || dims[0] != 2 || dims[1] != 3 || !bytes.Equal(data, []byte{1, 2, 3, 4, 5, 6}) {
		t.Fatalf("got dimensions %v and elements %v", dims, data)
	}
	for n := range good {
		if _, _, err := digits.ReadIdx(bytes.NewReader(good[:n])); !errors.Is(err, digits.ErrFormat) {
			t.Errorf("cut to %d bytes: got %v, want ErrFormat", n, err)
		}
	}
	bad := map[string][]byte{
		"trailing byte":  append(bytes.Clone(good), 7),
		"other type":     {0, 0, 13, 1, 0, 0, 0, 1, 1, 1, 1, 1},
		"no dimensions":  {0, 0, 8, 0, 1},
		"zero dimension": {0, 0, 8, 1, 0, 0, 0, 0},
		"too large":      {0, 0, 8, 1, 255, 255, 255, 255, 1},
		"product":        {0, 0, 8, 3, 0, 255, 255, 255, 0, 255, 255, 255, 0, 255, 255, 255},
	}
	for name, b := range bad {
		if _, _, err := digits.ReadIdx(bytes.NewReader(b)); !errors.Is(err, digits.ErrFormat) {
			t.Errorf("%s: got %v, want ErrFormat", name, err)
		}
	}
}

func TestRealData(t *testing.T) {
	dir, err := digits.Find(t.Context(), ".")
	if err != nil {
		t.Fatal(err)
	}
	train, test, err := digits.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if train.Len() != 60000 || test.Len() != 10000 {
		t.Fatalf("got %d and %d images, want 60000 and 10000", train.Len(), test.Len())
	}
	// The published class counts of the training set.
	want := [digits.Classes]int{5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949}
	var got [digits.Classes]int
	for i := range train.Len() {
		got[train.Label(i)]++
	}
	if got != want {
		t.Errorf("class counts %v, want %v", got, want)
	}
	image := make([]float32, digits.Pixels)
	test.Image(0, image)
	var ink float32
	for _, p := range image {
		if p < 0 || p > 1 {
			t.Fatalf("pixel %v outside 0 to 1", p)
		}
		ink += p
	}
	if ink == 0 {
		t.Error("the first test image is empty")
	}
}
