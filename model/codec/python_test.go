package codec_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/fedmesh/fedmesh/model"
	"github.com/fedmesh/fedmesh/model/codec"
	"github.com/fedmesh/fedmesh/model/internal/modeltest"
)

// python finds an interpreter with numpy, safetensors and ml_dtypes: the one that FEDMESH_PYTHON names, else
// python3.
func python(t *testing.T) string {
	t.Helper()
	name := os.Getenv("FEDMESH_PYTHON")
	if name == "" {
		name = "python3"
	}
	if out, err := exec.Command(name, "-c", "import numpy, safetensors, ml_dtypes").CombinedOutput(); err != nil {
		if os.Getenv("FEDMESH_PYTHON") != "" {
			t.Fatalf("FEDMESH_PYTHON=%s: %v\n%s", name, err, out)
		}
		t.Skip("SKIPPED: no python3 with numpy, safetensors and ml_dtypes (model/testdata/requirements.txt); " +
			"set FEDMESH_PYTHON to one that has them. The golden files still compare our bytes with theirs.")
	}
	return name
}

// What we write loads in the real libraries, and is what they would have written.
func TestRealLibrariesLoadWhatWeWrite(t *testing.T) {
	interpreter := python(t)
	dir := t.TempDir()
	models := map[string][]model.Tensor{
		"empty": {x("nothing", model.F32, 0, 3), x("scalar", model.I64)},
		"names": {x("é/日本", model.F32, 2), x(`q"`, model.F32, 1), x("~", model.F16), x("..c", model.U8, 3), x("a.npy", model.F64)},
		"dims":  {x("d", model.F32, 1, 2, 1, 3, 1, 1, 2), x("1234567", model.I16, 1234567)},
	}
	for d := model.Bool; d <= model.U64; d++ {
		models["dtypes"] = append(models["dtypes"], x("z"+strconv.Itoa(int(d)), d, 3, 2), x("a"+strconv.Itoa(int(d)), d))
	}
	for i := range 300 {
		models["many"] = append(models["many"], x(strconv.Itoa(i), model.F32, int64(i%5)))
	}
	for name, ts := range models {
		l := mustLayout(t, ts...)
		file := modeltest.File(l)
		want := make(map[string][3]any)
		for _, y := range l.Tensors() {
			data := file[int64(len(l.Header()))+y.Offset:][:y.Bytes()]
			if y.DType == model.Bool {
				for i := range data {
					data[i] &= 1
				}
			}
			want[y.Name] = [3]any{y.DType.String(), append([]int64{}, y.Shape...), hex.EncodeToString(data)}
		}
		manifest, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		write := func(ext string, b []byte) {
			if err := os.WriteFile(filepath.Join(dir, name+ext), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write(".json", manifest)
		for _, f := range []codec.Format{codec.Safetensors, codec.NPZ} {
			var b bytes.Buffer
			if err := codec.Emit(&b, f, l, bytes.NewReader(file)); err != nil {
				t.Fatal(err)
			}
			write("."+f.String(), b.Bytes())
		}
	}
	out, err := exec.Command(interpreter, filepath.Join("..", "testdata", "load.py"), dir).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "loaded "+strconv.Itoa(len(models))+" models") {
		t.Errorf("%v\n%s", err, out)
	}
}
