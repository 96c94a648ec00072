package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fedmesh/fedmesh/model"
	"github.com/fedmesh/fedmesh/model/codec"
	"github.com/fedmesh/fedmesh/model/safetensors"
)

func newModel(a *app) *cobra.Command {
	return group("model", "Look at, convert and compare model files",
		newModelInspect(a), newModelConvert(a), newModelDiff(a), newModelNew(a))
}

// A loaded model is a canonical file and what is known of it. The file is the one named
// when that is canonical, else a temporary copy in canonical form.
type loaded struct {
	file   *os.File
	layout *model.Layout
	digest model.Digest
	format codec.Format
	temp   bool
}

func (l *loaded) close() {
	l.file.Close()
	if l.temp {
		os.Remove(l.file.Name())
	}
}

// load reads a model in either format. Memory does not grow with the model.
func load(path string) (*loaded, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	l, err := loadFrom(f)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if l.file != f {
		f.Close()
	}
	return l, nil
}

func loadFrom(f *os.File) (*loaded, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if st.Mode().IsRegular() {
		if layout, err := safetensors.ReadLayout(f, st.Size()); err == nil {
			h := model.NewHash()
			if _, err := io.CopyBuffer(h, io.NewSectionReader(f, 0, st.Size()), make([]byte, 1<<20)); err != nil {
				return nil, err
			}
			return &loaded{file: f, layout: layout, digest: model.Digest(h.Sum(nil)), format: codec.Safetensors}, nil
		}
	}
	tmp, err := os.CreateTemp("", "fedmesh-model-*.safetensors")
	if err != nil {
		return nil, err
	}
	l := &loaded{file: tmp, temp: true}
	if l.layout, l.digest, l.format, err = ingest(f, tmp); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// ingest writes the model in r to dst in canonical form.
func ingest(r io.Reader, dst *os.File) (*model.Layout, model.Digest, codec.Format, error) {
	scratch, err := os.CreateTemp("", "fedmesh-scratch-*")
	if err != nil {
		return nil, model.Digest{}, 0, err
	}
	defer func() {
		scratch.Close()
		os.Remove(scratch.Name())
	}()
	br := bufio.NewReaderSize(r, 1<<20)
	prefix, err := br.Peek(codec.DetectBytes)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, model.Digest{}, 0, err
	}
	format, err := codec.Detect(prefix)
	if err != nil {
		return nil, model.Digest{}, 0, err
	}
	layout, digest, err := codec.Ingest(br, dst, codec.Options{MaxBytes: model.MaxDataBytes, Scratch: scratch})
	return layout, digest, format, err
}

// formatOf takes the format from a file's extension.
func formatOf(path string) (codec.Format, error) {
	switch strings.ToLower(filepath.Ext(path)) {
	case ".npz":
		return codec.NPZ, nil
	case ".safetensors":
		return codec.Safetensors, nil
	}
	return 0, usagef("cannot tell the format of %s: name it .safetensors or .npz", path)
}

func formatName(f codec.Format) string {
	if f == codec.NPZ {
		return "npz"
	}
	return "safetensors"
}

// inspected is what `fedmesh model inspect --json` prints for each file.
type inspected struct {
	File      string            `json:"file"`
	Format    string            `json:"format"`
	Canonical bool              `json:"canonical"`
	Digest    model.Digest      `json:"digest"`
	Elements  int64             `json:"elements"`
	Bytes     int64             `json:"bytes"`
	Tensors   []inspectedTensor `json:"tensors"`
}

type inspectedTensor struct {
	Name     string  `json:"name"`
	DType    string  `json:"dtype"`
	Shape    []int64 `json:"shape"`
	Elements int64   `json:"elements"`
	Bytes    int64   `json:"bytes"`
}

func newModelInspect(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "inspect FILE...",
		Short: "Show the tensors and the digest of models",
		Long: `Show the tensors of models in safetensors or npz format, and their digest: that of
the canonical form, which is the same for the same tensors in either format.`,
		Example: `  fedmesh model inspect update.npz
  fedmesh model inspect a.npz b.safetensors --json | jq -r '.[].digest'`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			var all []inspected
			for i, path := range args {
				v, err := inspect(path)
				if err != nil {
					return badModel(err)
				}
				if asJSON {
					all = append(all, v)
					continue
				}
				if i > 0 {
					fmt.Fprintln(a.out)
				}
				if _, err := fmt.Fprint(a.out, showModel(v)); err != nil {
					return err
				}
			}
			if asJSON {
				return a.printJSON(all)
			}
			return nil
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func inspect(path string) (inspected, error) {
	l, err := load(path)
	if err != nil {
		return inspected{}, err
	}
	defer l.close()
	v := inspected{
		File: path, Format: formatName(l.format), Canonical: !l.temp, Digest: l.digest,
		Elements: l.layout.Elements(), Bytes: l.layout.Size(), Tensors: []inspectedTensor{},
	}
	for _, t := range l.layout.Tensors() {
		shape := t.Shape
		if shape == nil {
			shape = []int64{}
		}
		v.Tensors = append(v.Tensors, inspectedTensor{t.Name, t.DType.String(), shape, t.Elements(), t.Bytes()})
	}
	return v, nil
}

func showModel(v inspected) string {
	form := "canonical"
	if !v.Canonical {
		form = "not canonical"
	}
	var head table
	head.row("file", v.File)
	head.row("format", v.Format+", "+form)
	head.row("digest", v.Digest.String())
	head.row("size", fmt.Sprintf("%d tensors, %d elements, %s", len(v.Tensors), v.Elements, size(v.Bytes)))
	var t table
	t.row("TENSOR", "DTYPE", "SHAPE", "ELEMENTS", "BYTES")
	for _, x := range v.Tensors {
		t.row(x.Name, x.DType, strings.ReplaceAll(fmt.Sprint(x.Shape), " ", ","), fmt.Sprint(x.Elements), fmt.Sprint(x.Bytes))
	}
	return head.render(0) + t.render(0)
}

func newModelConvert(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "convert IN OUT",
		Short: "Convert between safetensors and npz",
		Long: `Convert a model to the format of OUT's extension, .safetensors or .npz. What IN is
shows from its contents. A safetensors result is in canonical form, so converting
one to itself makes it canonical. The values are not changed.`,
		Example: `  fedmesh model convert update.npz update.safetensors`,
		Args:    cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			format, err := formatOf(args[1])
			if err != nil {
				return err
			}
			l, err := load(args[0])
			if err != nil {
				return badModel(err)
			}
			defer l.close()
			o, err := createOutput(args[1])
			if err != nil {
				return err
			}
			defer o.discard()
			w := bufio.NewWriterSize(o, 1<<20)
			if err := codec.Emit(w, format, l.layout, l.file); err != nil {
				return fmt.Errorf("%s: %w", args[1], err)
			}
			if err := w.Flush(); err != nil {
				return err
			}
			if err := o.commit(); err != nil {
				return err
			}
			return a.result(asJSON,
				map[string]string{"file": args[1], "format": formatName(format), "digest": l.digest.String()},
				fmt.Sprintf("%s: %s, digest %s\n", args[1], formatName(format), l.digest.Short()))
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

// badModel adds the next step to what is wrong with a file.
func badModel(err error) error {
	if errors.Is(err, model.ErrFormat) || errors.Is(err, model.ErrLayout) || errors.Is(err, model.ErrTooLarge) {
		return hint(err, "write the file again with numpy's savez or safetensors' save_file; only numbers and bools, no object arrays")
	}
	return err
}
