//go:build unix

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestPullIntoWhatIsNoFile pulls into a pipe, which stands for devices too: it must be
// written to and not be replaced. Never try this on a real device: run as root, a fault here
// would replace that of the whole machine.
func TestPullIntoWhatIsNoFile(t *testing.T) {
	_, sh := serve(t)
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	// Opened for both, neither end waits for the other; the model fits into the pipe's buffer.
	r, err := os.OpenFile(pipe, os.O_RDWR|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	sh.ok(t, "pull", "s", "-o", pipe)
	if st, err := os.Lstat(pipe); err != nil || st.Mode()&os.ModeNamedPipe == 0 {
		t.Fatalf("the pipe was replaced: %v", err)
	}
	want := f32(t, 0, 0, 0)
	got := make([]byte, len(want))
	if n, err := r.Read(got); err != nil || !bytes.Equal(got[:n], want) {
		t.Errorf("%d bytes through the pipe: %v", n, err)
	}
	checkFolder(t, dir, "pipe")
}
