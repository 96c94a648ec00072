package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"

	"github.com/fedmesh/fedmesh/examples/mnist/digits"
	"github.com/fedmesh/fedmesh/model"
	"github.com/fedmesh/fedmesh/model/codec"
)

// examples are the clients' numbers of images: far apart, so that weights matter.
var examples = []int{200, 1800, 600, 300, 2400, 100, 900, 1200}

// writeData gives each client images of its own, mostly of some digits, and returns the files.
func writeData(dir string, train *digits.Set, seed uint64) ([]string, error) {
	rng := rand.New(rand.NewPCG(seed, 0))
	order := rng.Perm(train.Len())
	var files []string
	for c, n := range examples {
		var images, labels []byte
		row, rest := make([]float32, digits.Pixels), []int(nil)
		for _, i := range order {
			mine := train.Label(i)%4 == c%4 || train.Label(i) >= 8
			if len(labels) == 8*n || !mine && rng.IntN(8) > 0 {
				rest = append(rest, i)
				continue
			}
			train.Image(i, row)
			for _, v := range row {
				images = append(images, byte(math.Round(float64(v)*255)))
			}
			labels = binary.LittleEndian.AppendUint64(labels, uint64(train.Label(i)))
		}
		if order = rest; len(labels) < 8*n {
			return nil, fmt.Errorf("fedn: too few images for client %d", c+1)
		}
		path := filepath.Join(dir, fmt.Sprintf("client%d.npz", c+1))
		err := writeNPZ(path, map[string][]byte{"images": images, "labels": labels},
			model.Tensor{Name: "images", DType: model.U8, Shape: []int64{int64(n), digits.Pixels}},
			model.Tensor{Name: "labels", DType: model.I64, Shape: []int64{int64(n)}})
		if err != nil {
			return nil, err
		}
		files = append(files, path)
	}
	return files, nil
}

// writeSeed writes a model of zeros, as FEDn names its arrays: weights and biases of one layer.
func writeSeed(path string) error {
	return writeNPZ(path, map[string][]byte{"0": make([]byte, 4*digits.Pixels*digits.Classes), "1": make([]byte, 4*digits.Classes)},
		model.Tensor{Name: "0", DType: model.F32, Shape: []int64{digits.Pixels, digits.Classes}},
		model.Tensor{Name: "1", DType: model.F32, Shape: []int64{digits.Classes}})
}

func writeNPZ(path string, data map[string][]byte, ts ...model.Tensor) error {
	l, err := model.NewLayout(ts)
	if err != nil {
		return fmt.Errorf("fedn: %w", err)
	}
	canonical := bytes.Clone(l.Header())
	for _, t := range l.Tensors() {
		canonical = append(canonical, data[t.Name]...)
	}
	var out bytes.Buffer
	if err := codec.Emit(&out, codec.NPZ, l, bytes.NewReader(canonical)); err != nil {
		return fmt.Errorf("fedn: %w", err)
	}
	if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil {
		return fmt.Errorf("fedn: %w", err)
	}
	return nil
}

// arrays is a model in memory.
type arrays struct {
	layout *model.Layout
	file   []byte // canonical
	digest model.Digest
}

// readNPZ reads a model, or a client's update: "arr_0" and "arr_1", which numpy names so, and "examples".
func readNPZ(path string) (arrays, error) {
	f, err := os.Open(path)
	if err != nil {
		return arrays{}, fmt.Errorf("fedn: %w", err)
	}
	defer f.Close()
	var out, scratch memory
	l, d, err := codec.Ingest(f, &out, codec.Options{Scratch: &scratch})
	if err != nil {
		return arrays{}, fmt.Errorf("fedn: %s: %w", filepath.Base(path), err)
	}
	return arrays{l, out.b, d}, nil
}

// tensor returns one array's values as float64.
func (a arrays) tensor(name string) ([]float64, error) {
	i, ok := a.layout.Lookup(name)
	if !ok {
		return nil, fmt.Errorf("fedn: no array %q", name)
	}
	t := a.layout.Tensors()[i]
	p := a.file[int64(len(a.layout.Header()))+t.Offset:]
	out := make([]float64, t.Elements())
	for i := range out {
		switch t.DType {
		case model.F32:
			out[i] = float64(math.Float32frombits(binary.LittleEndian.Uint32(p[4*i:])))
		case model.F64:
			out[i] = math.Float64frombits(binary.LittleEndian.Uint64(p[8*i:]))
		case model.I64:
			out[i] = float64(int64(binary.LittleEndian.Uint64(p[8*i:])))
		default:
			return nil, fmt.Errorf("fedn: array %q is %v", name, t.DType)
		}
	}
	return out, nil
}

// memory is a file in memory.
type memory struct{ b []byte }

func (m *memory) WriteAt(p []byte, at int64) (int, error) {
	if need := int(at) + len(p); need > len(m.b) {
		m.b = append(m.b, make([]byte, need-len(m.b))...)
	}
	return copy(m.b[at:], p), nil
}

func (m *memory) ReadAt(p []byte, at int64) (int, error) {
	if at >= int64(len(m.b)) {
		return 0, io.EOF
	}
	n := copy(p, m.b[at:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}
