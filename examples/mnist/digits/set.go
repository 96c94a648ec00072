package digits

import (
	"compress/gzip"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Pixels is the number of pixels of an image, 28 rows of 28.
const Pixels = 28 * 28

// Classes is the number of labels, the digits 0 to 9.
const Classes = 10

// Set is a sequence of labelled images.
type Set struct {
	pixels []byte
	labels []byte
}

// NewSet makes a set of Pixels bytes per label. It keeps both slices.
func NewSet(pixels, labels []byte) (*Set, error) {
	if len(pixels) != len(labels)*Pixels {
		return nil, fmt.Errorf("digits: %d bytes of pixels for %d labels of %d pixels each", len(pixels), len(labels), Pixels)
	}
	for i, l := range labels {
		if l >= Classes {
			return nil, fmt.Errorf("digits: label %d is %d, want 0 to %d", i, l, Classes-1)
		}
	}
	return &Set{pixels: pixels, labels: labels}, nil
}

// Len is the number of images.
func (s *Set) Len() int { return len(s.labels) }

// Label is the digit that image i shows.
func (s *Set) Label(i int) int { return int(s.labels[i]) }

// Image writes the pixels of image i to dst, from 0 (paper) to 1 (ink).
func (s *Set) Image(i int, dst []float32) {
	for j, p := range s.pixels[i*Pixels : (i+1)*Pixels] {
		dst[j] = float32(p) / 255
	}
}

// Load reads the training and the test set from a folder that holds the four
// original files.
func Load(dir string) (train, test *Set, err error) {
	train, trainErr := load(dir, "train")
	test, testErr := load(dir, "t10k")
	if err := errors.Join(trainErr, testErr); err != nil {
		return nil, nil, err
	}
	return train, test, nil
}

func load(dir, prefix string) (*Set, error) {
	dims, pixels, err := readFile(filepath.Join(dir, prefix+"-images-idx3-ubyte.gz"))
	if err != nil {
		return nil, err
	}
	if len(dims) != 3 || dims[1]*dims[2] != Pixels {
		return nil, fmt.Errorf("digits: %s images have dimensions %v, want n×28×28", prefix, dims)
	}
	dims, labels, err := readFile(filepath.Join(dir, prefix+"-labels-idx1-ubyte.gz"))
	if err != nil {
		return nil, err
	}
	if len(dims) != 1 {
		return nil, fmt.Errorf("digits: %s labels have dimensions %v, want one", prefix, dims)
	}
	return NewSet(pixels, labels)
}

func readFile(path string) (dims []int, data []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, fmt.Errorf("digits: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, nil, fmt.Errorf("digits: %s: %w", path, err)
	}
	dims, data, err = ReadIdx(z)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return dims, data, nil
}
