package safetensors_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/fedmesh/fedmesh/model"
	"github.com/fedmesh/fedmesh/model/internal/modeltest"
	"github.com/fedmesh/fedmesh/model/safetensors"
)

// file puts a header before data.
func file(header, data string) string {
	return string(binary.LittleEndian.AppendUint64(nil, uint64(len(header)))) + header + data
}

func decode(r io.Reader) (*model.Layout, []byte, error) {
	var sink modeltest.Collect
	if err := safetensors.Decode(r, model.Limits{}, &sink); err != nil {
		return nil, nil, err
	}
	return sink.Canonical()
}

func golden(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestGoldenFilesAreCanonical(t *testing.T) {
	for _, name := range []string{"dtypes", "shapes", "padding", "many", "unicode"} {
		want := golden(t, name+".safetensors")
		for kind, r := range map[string]io.Reader{
			"at once":  bytes.NewReader(want),
			"in bytes": iotest.OneByteReader(bytes.NewReader(want)),
			"with EOF": iotest.DataErrReader(bytes.NewReader(want)),
		} {
			_, got, err := decode(r)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s %s: %v, equal %v", name, kind, err, bytes.Equal(got, want))
			}
		}
		l, err := safetensors.ReadLayout(bytes.NewReader(want), int64(len(want)))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var out bytes.Buffer
		data := io.NewSectionReader(bytes.NewReader(want), int64(len(l.Header())), l.DataSize())
		if err := safetensors.Encode(&out, l, data); err != nil || !bytes.Equal(out.Bytes(), want) {
			t.Errorf("%s encoded: %v", name, err)
		}
	}
}

func TestMetadataIsDropped(t *testing.T) {
	_, got, err := decode(bytes.NewReader(golden(t, "metadata.safetensors")))
	if err != nil || !bytes.Equal(got, golden(t, "metadata.plain.safetensors")) {
		t.Fatalf("%v, %q", err, got)
	}
}

func TestAnyOrderIsAccepted(t *testing.T) {
	// Two orders of the same tensors: in the data, and in the header.
	a := file(`{"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"e":{"dtype":"F32","shape":[0],"data_offsets":[4,4]},"a":{"dtype":"U8","shape":[2],"data_offsets":[4,6]}}`, "BBBBaa")
	b := file("{ \"a\" :\n{\"shape\": [ 2 ] ,\"data_offsets\":[0, 2],\"dtype\":\"\\u00558\"},\"\\u0062\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[2,6]},\"e\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[2,2]}} \n", "aaBBBB")
	_, x, err := decode(strings.NewReader(a))
	if err != nil {
		t.Fatal(err)
	}
	_, y, err := decode(strings.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(x, y) || !bytes.HasSuffix(x, []byte("BBBBaa")) {
		t.Errorf("%q\n%q", x, y)
	}
}

func TestRefused(t *testing.T) {
	one := func(members string) string { return file(`{"w":{`+members+`}}`, "1234") }
	for name, c := range map[string]struct {
		in   string
		is   error
		want string
	}{
		"empty":              {"", model.ErrFormat, "header length: truncated after 0 of 8"},
		"short length":       {"1234567", model.ErrFormat, "header length: truncated after 7 of 8"},
		"length 2^60":        {"\x00\x00\x00\x00\x00\x00\x00\x10{}", model.ErrTooLarge, "1152921504606846976 bytes"},
		"length 2^64-1":      {strings.Repeat("\xff", 8), model.ErrTooLarge, "18446744073709551615 bytes"},
		"length beyond cap":  {"\x01\x00\x00\x01\x00\x00\x00\x00{}", model.ErrTooLarge, "at most 16777216"},
		"length beyond file": {"\x00\x00\x00\x01\x00\x00\x00\x00{}", model.ErrFormat, "header: truncated after 2 of 16777216"},
		"cut in the second":  {file(`{"v":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"w":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}`, "1234567"), model.ErrFormat, `tensor "w": truncated after 3 of 8`},
		"no header":          {file("", ""), model.ErrFormat, `begin with "{"`},
		"space first":        {file(" {}", ""), model.ErrFormat, `begin with "{"`},
		"array":              {file("[]", ""), model.ErrFormat, `begin with "{"`},
		"not closed":         {file(`{"w"`, ""), model.ErrFormat, "it ends where"},
		"not closed 2":       {file(`{"w`, ""), model.ErrFormat, "inside a string"},
		"text behind":        {file(`{}x`, ""), model.ErrFormat, "after the closing brace"},
		"NUL behind":         {file("{}\x00", ""), model.ErrFormat, "after the closing brace"},
		"trailing comma":     {file(`{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},}`, "1234"), model.ErrFormat, `'"' is expected`},
		"twice":              {file(`{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, "1234"), model.ErrFormat, `key "w" appears twice`},
		"twice escaped":      {file(`{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"\u0077":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}`, "12345678"), model.ErrFormat, `key "w" appears twice`},
		"dtype twice":        {one(`"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]`), model.ErrFormat, `key "dtype" appears twice`},
		"unknown key":        {one(`"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1`), model.ErrFormat, `tensor "w": unknown key "x"`},
		"missing key":        {one(`"dtype":"F32","shape":[1]`), model.ErrFormat, `tensor "w": "data_offsets" is missing`},
		"unknown dtype":      {one(`"dtype":"F8_E4M3","shape":[4],"data_offsets":[0,4]`), model.ErrFormat, `tensor "w": model: dtype "F8_E4M3" is not supported; use one of BOOL, U8`},
		"dtype a number":     {one(`"dtype":1,"shape":[4],"data_offsets":[0,4]`), model.ErrFormat, "is expected"},
		"fraction":           {one(`"dtype":"F32","shape":[1.0],"data_offsets":[0,4]`), model.ErrFormat, "'.'"},
		"exponent":           {one(`"dtype":"F32","shape":[1e0],"data_offsets":[0,4]`), model.ErrFormat, "'e'"},
		"leading zero":       {one(`"dtype":"F32","shape":[01],"data_offsets":[0,4]`), model.ErrFormat, "leading zero"},
		"minus zero":         {one(`"dtype":"F32","shape":[-0],"data_offsets":[0,4]`), model.ErrFormat, "negative"},
		"negative dim":       {one(`"dtype":"F32","shape":[-1],"data_offsets":[0,4]`), model.ErrFormat, `tensor "w": shape: negative number -1`},
		"negative offset":    {one(`"dtype":"F32","shape":[1],"data_offsets":[-4,0]`), model.ErrFormat, `tensor "w": data_offsets: negative number -4`},
		"huge offset":        {one(`"dtype":"F32","shape":[1],"data_offsets":[0,99999999999999999999]`), model.ErrTooLarge, "99999999999999999999 is beyond"},
		"one offset":         {one(`"dtype":"F32","shape":[1],"data_offsets":[0]`), model.ErrFormat, "two numbers"},
		"three offsets":      {one(`"dtype":"F32","shape":[1],"data_offsets":[0,4,8]`), model.ErrFormat, "more than 2"},
		"reversed offsets":   {one(`"dtype":"F32","shape":[1],"data_offsets":[4,0]`), model.ErrFormat, "end before they begin"},
		"wrong span":         {one(`"dtype":"F32","shape":[1],"data_offsets":[0,8]`), model.ErrFormat, `tensor "w": data_offsets [0,8] hold 8 bytes, but F32 [1] needs 4`},
		"overflow":           {one(`"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]`), model.ErrTooLarge, `tensor "w": F32 [4294967296,4294967296] overflows`},
		"overflow to 4":      {one(`"dtype":"U8","shape":[4611686018427387905,4],"data_offsets":[0,4]`), model.ErrTooLarge, "overflows"},
		"33 dims":            {one(`"dtype":"U8","shape":[1` + strings.Repeat(",1", 32) + `],"data_offsets":[0,1]`), model.ErrFormat, "more than 32"},
		"hole first":         {file(`{"w":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}`, "12"), model.ErrFormat, `tensor "w": data_offsets [1,2] leave a hole of 1 bytes`},
		"hole":               {file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}}`, "123"), model.ErrFormat, `tensor "b"`},
		"out of range":       {file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[1],"data_offsets":[9,10]}}`, "12"), model.ErrFormat, `tensor "b": data_offsets [9,10] leave a hole`},
		"overlap":            {file(`{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}`, "123"), model.ErrFormat, `tensor "b": data_offsets [1,3] overlap tensor "a"`},
		"same range":         {file(`{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}`, "12"), model.ErrFormat, `overlap tensor "a"`},
		"empty inside":       {file(`{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"e":{"dtype":"U8","shape":[0],"data_offsets":[1,1]}}`, "12"), model.ErrFormat, "overlap"},
		"truncated data":     {file(`{"a":{"dtype":"U8","shape":[9],"data_offsets":[0,9]}}`, "12"), model.ErrFormat, `tensor "a": truncated after 2 of 9`},
		"trailing":           {file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, "12"), model.ErrFormat, "bytes follow the last tensor, which ends at byte 1"},
		"trailing nothing":   {file(`{}`, "1"), model.ErrFormat, "bytes follow"},
		"metadata a number":  {file(`{"__metadata__":{"a":1}}`, ""), model.ErrFormat, "is expected"},
		"metadata twice":     {file(`{"__metadata__":{},"__metadata__":{}}`, ""), model.ErrFormat, "twice"},
		"metadata nested":    {file(`{"__metadata__":{"a":{}}}`, ""), model.ErrFormat, "is expected"},
		"metadata null":      {file(`{"__metadata__":null}`, ""), model.ErrFormat, "is expected"},
		"name empty":         {file(`{"":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}`, ""), model.ErrFormat, "is empty"},
		"name dots":          {file(`{"../w":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}`, ""), model.ErrFormat, `"../w" contains ".."`},
		"name NUL":           {file(`{"\u0000":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}`, ""), model.ErrFormat, `contains '\x00'`},
		"name long":          {file(`{"`+strings.Repeat("w", 513)+`":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}`, ""), model.ErrFormat, "513 bytes"},
		"invalid UTF-8":      {file("{\"\xff\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", ""), model.ErrFormat, "UTF-8"},
		"raw control":        {file("{\"a\nb\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", ""), model.ErrFormat, "control character 0x0a"},
		"lone surrogate":     {file(`{"\ud800":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}`, ""), model.ErrFormat, "surrogate"},
		"bad pair":           {file(`{"\ud800\u0041":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}`, ""), model.ErrFormat, "surrogate"},
		"bad escape":         {file(`{"\x41":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}`, ""), model.ErrFormat, "escape"},
		"bad hex":            {file(`{"\u+123":{}}`, ""), model.ErrFormat, "hex"},
		"many metadata keys": {file(`{"__metadata__":{`+manyKeys(1<<16+1, `"%d":""`)+`}}`, ""), model.ErrTooLarge, "more than 65536 keys"},
		"many tensors":       {file(`{`+manyKeys(1<<16+1, `"%d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}`)+`}`, ""), model.ErrTooLarge, "more than 65536 tensors"},
	} {
		_, _, err := decode(strings.NewReader(c.in))
		if !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v; want %v with %q", name, err, c.is, c.want)
		}
	}
}

func manyKeys(n int, format string) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

func TestSurrogatePairs(t *testing.T) {
	l, _, err := decode(strings.NewReader(file(`{"\ud83d\ude00\/\"":{"dtype":"U8","shape":[],"data_offsets":[0,1]}}`, "1")))
	if err != nil || l.Tensors()[0].Name != `😀/"` {
		t.Fatalf("%v, %v", l, err)
	}
}

func TestLimits(t *testing.T) {
	in := file(`{"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]},"b":{"dtype":"U8","shape":[8],"data_offsets":[8,16]}}`, "0123456701234567")
	for _, c := range []struct {
		lim  model.Limits
		want string
	}{
		{model.Limits{Bytes: 16, Tensors: 2, Header: 1000}, ""},
		{model.Limits{Bytes: 15}, `tensor "b" ends at byte 16, at most 15`},
		{model.Limits{Tensors: 1}, "more than 1 tensors"},
		{model.Limits{Header: 20}, "at most 20"},
	} {
		err := safetensors.Decode(strings.NewReader(in), c.lim, new(modeltest.Collect))
		if c.want == "" && err != nil || c.want != "" && (!errors.Is(err, model.ErrTooLarge) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v: %v", c.lim, err)
		}
	}
}

func TestTruncationAnywhere(t *testing.T) {
	whole := golden(t, "many.safetensors")
	for n := range whole {
		if _, _, err := decode(bytes.NewReader(whole[:n])); !errors.Is(err, model.ErrFormat) || !strings.Contains(err.Error(), "truncated") {
			t.Fatalf("cut at %d: %v", n, err)
		}
	}
}

func TestErrorsOfTheInputPass(t *testing.T) {
	whole := golden(t, "many.safetensors")
	fault := errors.New("connection reset")
	for _, n := range []int{0, 5, 8, 100, len(whole) - 100, len(whole)} {
		_, _, err := decode(io.MultiReader(bytes.NewReader(whole[:n]), iotest.ErrReader(fault)))
		if !errors.Is(err, fault) || errors.Is(err, model.ErrFormat) {
			t.Errorf("fault at %d: %v", n, err)
		}
	}
}

func TestReadLayoutRefusesWhatIsNotCanonical(t *testing.T) {
	spaced := file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}} `, "1")
	order := file(`{"b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}       `, "12")
	for name, b := range map[string]string{
		"metadata": string(golden(t, "metadata.safetensors")),
		"spaces":   spaced,
		"order":    order,
		"short":    string(golden(t, "many.safetensors"))[:3000],
		"long":     string(golden(t, "many.safetensors")) + "x",
		"empty":    "",
	} {
		if _, err := safetensors.ReadLayout(strings.NewReader(b), int64(len(b))); !errors.Is(err, model.ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEncodeSaysWhereItStopped(t *testing.T) {
	l, err := model.NewLayout([]model.Tensor{{Name: "a", DType: model.F32, Shape: []int64{1000}}})
	if err != nil {
		t.Fatal(err)
	}
	err = safetensors.Encode(io.Discard, l, strings.NewReader("short"))
	if !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(err.Error(), "byte 5") {
		t.Errorf("short source: %v", err)
	}
	fault := errors.New("disk full")
	for _, n := range []int{0, 1} {
		if err := safetensors.Encode(&failing{n, fault}, l, bytes.NewReader(make([]byte, 4000))); !errors.Is(err, fault) {
			t.Errorf("write %d: %v", n, err)
		}
	}
}

// failing fails after n writes.
type failing struct {
	n   int
	err error
}

func (f *failing) Write(p []byte) (int, error) {
	if f.n--; f.n < 0 {
		return 0, f.err
	}
	return len(p), nil
}
