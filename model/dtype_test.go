package model_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/fedmesh/fedmesh/model"
)

func TestDTypes(t *testing.T) {
	total := int64(0)
	for d := model.Bool; d <= model.U64; d++ {
		if p, err := model.ParseDType(d.String()); err != nil || p != d || !d.Valid() {
			t.Errorf("%s: parsed %v, %v", d, p, err)
		}
		if d.Float() != strings.Contains(d.String(), "F") {
			t.Errorf("%s: Float %v", d, d.Float())
		}
		total += d.Size()
	}
	if total != 3*1+4*2+3*4+3*8 {
		t.Errorf("sizes add up to %d", total)
	}
	if d := model.DType(0); d.Valid() || d.Size() != 0 || d.String() != "DType(0)" {
		t.Errorf("the zero dtype: %v", d)
	}
	for _, bad := range []string{"", "f32", "F8_E4M3", "DType(0)"} {
		if _, err := model.ParseDType(bad); !errors.Is(err, model.ErrFormat) || !strings.Contains(err.Error(), "BF16") {
			t.Errorf("%q: %v does not list what is supported", bad, err)
		}
	}
}

func TestDigest(t *testing.T) {
	// From the reference implementation (b3sum).
	const ofNothing = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
	d := model.Sum(nil)
	if d.String() != ofNothing || d.Short() != ofNothing[:8] || d.IsZero() || !(model.Digest{}).IsZero() {
		t.Errorf("digest of nothing is %s", d)
	}
	h := model.NewHash()
	text := bytes.Repeat([]byte("fedmesh"), 5000)
	for i := 0; i < len(text); i += 700 {
		_, _ = h.Write(text[i : i+700])
	}
	want := model.Sum(text)
	if !bytes.Equal(h.Sum(nil), want[:]) {
		t.Errorf("in pieces %x, at once %s", h.Sum(nil), want)
	}
	b, err := json.Marshal(map[string]model.Digest{"x": d})
	if err != nil || string(b) != `{"x":"`+ofNothing+`"}` {
		t.Errorf("%s, %v", b, err)
	}
	var back map[string]model.Digest
	if err := json.Unmarshal(b, &back); err != nil || back["x"] != d {
		t.Errorf("%v, %v", back, err)
	}
	for _, bad := range []string{"", "af13", ofNothing + "0", "g" + ofNothing[1:], strings.Repeat("é", 32)} {
		if got, err := model.ParseDigest(bad); err == nil || !got.IsZero() {
			t.Errorf("%q: %v, %v", bad, got, err)
		}
	}
}
