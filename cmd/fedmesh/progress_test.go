package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/fedmesh/fedmesh/mesh/api"
)

// TestProgressOfAnUploadThatGoesOn reads a file as a client does whose connection breaks.
func TestProgressOfAnUploadThatGoesOn(t *testing.T) {
	var err bytes.Buffer
	a := &app{err: &err, terminal: true}
	path := filepath.Join(t.TempDir(), "u")
	write(t, path, make([]byte, 3_000_000))
	open := a.watched("push", func() (io.ReadCloser, int64, error) {
		f, err := os.Open(path)
		return f, 3_000_000, err
	})
	r, n, e := open()
	if e != nil || n != 3_000_000 {
		t.Fatal(n, e)
	}
	tick := time.NewTicker(10 * time.Millisecond) // it is drawn every 100 ms
	defer tick.Stop()
	for range 20 {
		if _, e := io.CopyN(io.Discard, r, 50_000); e != nil {
			t.Fatal(e)
		}
		<-tick.C
	}
	for _, want := range []string{`push`, `\d%`, `3\.0 MB, `, `\d [kM]?B/s`, `\[\d+[ms]\S*:\d+[ms]`} { // rate and time left are the machine's
		if !regexp.MustCompile(want).MatchString(err.String()) {
			t.Errorf("the bar does not show %s: %q", want, err.String())
		}
	}
	a.notes().Info().Str("peer", "http://b:1").Int64("offset", 500_000).Int64("again", 500_000).Msg("an upload goes on")
	if want := "fedmesh: http://b:1: an upload goes on from 500.0 KB, 500.0 KB are sent again\n"; !strings.HasSuffix(err.String(), want) {
		t.Errorf("no note: %q", err.String())
	}
	s, ok := r.(io.Seeker)
	if !ok {
		t.Fatal("a file cannot be sought in any more")
	}
	if _, e := s.Seek(500_000, io.SeekStart); e != nil {
		t.Fatal(e)
	}
	if !strings.Contains(err.String(), "push, on from 500.0 KB") {
		t.Errorf("the bar does not go on: %q", err.String())
	}
	if b, e := io.ReadAll(r); len(b) != 2_500_000 || e != nil {
		t.Errorf("%d bytes, %v", len(b), e)
	}
	r.Close()
	if a.progress.bar != nil {
		t.Error("the bar stays")
	}
}

func TestNotesAndQuiet(t *testing.T) {
	p, sh := serve(t)
	file := filepath.Join(t.TempDir(), "u.safetensors")
	write(t, file, f32(t, 1, 2, 3))
	sh.env["FEDMESH_PEERS"] = "http://127.0.0.1:1," + sh.env["FEDMESH_PEERS"]
	push := []string{"push", "s", file, "--combiner", "c", "--weight", "1"}
	if r := sh.run(t, push...); r.err != "" { // no terminal
		t.Errorf("%q", r.err)
	}
	sh.terminal = true
	if r := sh.run(t, push...); r.code != exitOK || !strings.Contains(r.err, "fedmesh: http://127.0.0.1:1: peer failed, moving on: ") {
		t.Errorf("%+v", r)
	}
	if r := sh.run(t, append(push, "--quiet")...); r != (result{}) {
		t.Errorf("quiet: %+v", r)
	}
	if r := sh.run(t, append(push, "-q", "--json")...); r.err != "" || !fromJSON[api.Receipt](t, r.out).Duplicate {
		t.Errorf("quiet, as JSON: %+v", r)
	}
	out := filepath.Join(t.TempDir(), "m.npz")
	if r := sh.run(t, "pull", "s", "-o", out, "-q"); r != (result{}) {
		t.Errorf("quiet: %+v", r)
	}
	if r := sh.run(t, "pull", "s", "-o", out, "-q", "--after", "0"); r != (result{code: exitNotFound}) {
		t.Errorf("quiet: %+v", r)
	}
	p.fail(errInternal)
	if r := sh.run(t, append(push, "-q")...); r.code != exitFailure || r.err == "" {
		t.Errorf("quiet must not hide errors: %+v", r)
	}
}
