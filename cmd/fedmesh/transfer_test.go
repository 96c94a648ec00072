package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fedmesh/fedmesh/mesh/api"
)

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// checkFolder asserts which files a folder holds, hidden ones too.
func checkFolder(t *testing.T, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if strings.Join(got, " ") != strings.Join(names, " ") {
		t.Errorf("the folder holds %q, want %q", got, names)
	}
}

func TestPush(t *testing.T) {
	p, sh := serve(t)
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	update := f32(t, 1, 2, 3)
	file := filepath.Join(t.TempDir(), "u.safetensors")
	write(t, file, update)

	out := sh.ok(t, "push", "s", file, "--combiner", "c", "--weight", "5")
	if !strings.HasPrefix(out, "pushed s/c "+digestOf(update)[:8]) || !strings.Contains(out, "a, b") {
		t.Errorf("%q", out)
	}
	u := p.pushes[0]
	if !bytes.Equal(u.body, update) || u.Weight != 5 || u.Base != p.info.Model {
		t.Errorf("weight %d, base %s, %d bytes", u.Weight, u.Base, len(u.body))
	}
	r := fromJSON[api.Receipt](t, sh.ok(t, "push", "s", file, "--combiner", "c", "--weight", "5", "--json"))
	if !r.Duplicate || r.ID != u.ID {
		t.Errorf("a second push must find the first: %+v", r)
	}

	sh.stdin = string(update)
	sh.ok(t, "push", "s", "-", "--combiner", "d", "--weight", "1")
	if !bytes.Equal(p.pushes[1].body, update) {
		t.Error("standard input did not arrive")
	}
	checkFolder(t, tmp)

	// The first peer is down: the next is asked, with what stdin brought.
	sh.env["FEDMESH_PEERS"] = "http://127.0.0.1:1," + sh.env["FEDMESH_PEERS"]
	sh.ok(t, "push", "s", "-", "--combiner", "e", "--weight", "1")
	if !bytes.Equal(p.pushes[2].body, update) {
		t.Error("standard input did not arrive at the second peer")
	}
	write(t, file, f32(t, 9, 9, 9))
	checkError(t, sh.run(t, "push", "s", file, "--combiner", "c", "--weight", "5", "--id", u.ID), exitRefused, "differs")
}

// TestPushUnansweredTellsHowToRepeat breaks a push after its base was settled: "latest" may
// be another model by the time the user tries again, and would then count twice.
func TestPushUnansweredTellsHowToRepeat(t *testing.T) {
	p, sh := serve(t)
	file := filepath.Join(t.TempDir(), "u.safetensors")
	write(t, file, f32(t, 1, 2, 3))
	p.failPush = api.Unavailable("the disk is full", 0)
	r := sh.run(t, "push", "s", file, "--combiner", "c", "--weight", "5")
	checkError(t, r, exitUnavailable, "the disk is full", "--base "+p.info.Model+" --id r0-"+p.info.Model[:16])

	_, flags, _ := strings.Cut(r.err, "push again with ")
	flags, _, _ = strings.Cut(flags, ":")
	p.failPush = nil
	sh.ok(t, "push", "s", file, "--combiner", "c", "--weight", "5")
	p.setModel(1, f32(t, 1, 1, 1))
	args := append([]string{"push", "s", file, "--combiner", "c", "--weight", "5", "--json"}, strings.Fields(flags)...)
	if got := fromJSON[api.Receipt](t, sh.ok(t, args...)); !got.Duplicate {
		t.Errorf("repeated as told, it counts twice: %+v", got)
	}
}

func TestPull(t *testing.T) {
	p, sh := serve(t)
	seed, next := f32(t, 0, 0, 0), f32(t, 1, 2, 3)
	p.setModel(1, next)
	dir := t.TempDir()
	file := filepath.Join(dir, "m.safetensors")

	out := sh.ok(t, "pull", "s", "-o", file)
	if !strings.Contains(out, "round 1 "+digestOf(next)[:8]) {
		t.Errorf("%q", out)
	}
	if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, next) {
		t.Errorf("%v, %d bytes", err, len(got))
	}
	info := fromJSON[pulled](t, sh.ok(t, "pull", "s", "-o", file, "--round", "0", "--json"))
	if info.Round != 0 || info.Digest != digestOf(seed) || info.Bytes != int64(len(seed)) || info.File != file {
		t.Errorf("%+v", info)
	}
	if got, _ := os.ReadFile(file); !bytes.Equal(got, seed) {
		t.Error("the file was not replaced")
	}
	sh.ok(t, "pull", "s", "-o", file, "--digest", digestOf(next))
	if got := sh.ok(t, "pull", "s", "-o", "-"); got != string(next) {
		t.Errorf("%d bytes on standard output", len(got))
	}
	npz := filepath.Join(dir, "m.npz")
	sh.ok(t, "pull", "s", "-o", npz)
	if got := fromJSON[[]inspected](t, sh.ok(t, "model", "inspect", npz, "--json")); got[0].Format != "npz" || got[0].Digest.String() != digestOf(next) {
		t.Errorf("%+v", got)
	}
	checkFolder(t, dir, "m.npz", "m.safetensors")
}

func TestPullLeavesNothingBehindOnFailure(t *testing.T) {
	_, sh := serve(t)
	dir := t.TempDir()
	checkError(t, sh.run(t, "pull", "s", "-o", filepath.Join(dir, "m"), "--round", "7"), exitNotFound)
	checkFolder(t, dir)
	write(t, filepath.Join(dir, "m"), []byte("old"))
	checkError(t, sh.run(t, "pull", "s", "-o", filepath.Join(dir, "m"), "--round", "7"), exitNotFound)
	checkFolder(t, dir, "m")
	if b, _ := os.ReadFile(filepath.Join(dir, "m")); string(b) != "old" {
		t.Error("a failed pull touched the file")
	}
}

func TestPullNewer(t *testing.T) {
	p, sh := serve(t)
	file := filepath.Join(t.TempDir(), "m.safetensors")
	for _, after := range []string{"0", p.info.Model} {
		r := sh.run(t, "pull", "s", "-o", file, "--after", after)
		if r.code != exitNotFound || r.out != "" || !strings.Contains(r.err, "nothing newer") {
			t.Errorf("after %s: %+v", after, r)
		}
	}
	go func() {
		<-time.After(50 * time.Millisecond)
		p.setModel(1, f32(t, 4, 4, 4))
	}()
	sh.ok(t, "pull", "s", "-o", file, "--after", "0", "--wait", "1m")
	if got, _ := os.ReadFile(file); !bytes.Equal(got, f32(t, 4, 4, 4)) {
		t.Error("not the newer model")
	}
}

func TestProgressGoesToTheTerminalOnly(t *testing.T) {
	_, sh := serve(t)
	dir := t.TempDir()
	file, out := filepath.Join(dir, "u.safetensors"), filepath.Join(dir, "m.safetensors")
	write(t, file, f32(t, 1, 2, 3))
	quiet := sh.run(t, "push", "s", file, "--combiner", "c", "--weight", "1")
	sh.terminal = true
	shown := sh.run(t, "push", "s", file, "--combiner", "c2", "--weight", "1")
	if quiet.err != "" || !strings.Contains(shown.err, "push") {
		t.Errorf("without a terminal %q, with one %q", quiet.err, shown.err)
	}
	if strings.Count(shown.out, "\n") != 1 {
		t.Errorf("standard output %q", shown.out)
	}
	if r := sh.run(t, "pull", "s", "-o", out); r.code != exitOK || !strings.Contains(r.err, "pull") {
		t.Errorf("%+v", r)
	}
}
