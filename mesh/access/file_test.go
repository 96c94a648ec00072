package access_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/fedmesh/fedmesh/mesh/access"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestFileIsReadAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens")
	old, young := access.NewToken(), access.NewToken()
	first := lineOf(t, access.Grant{Name: "old", Role: access.Reader}, old) + "\n"
	second := lineOf(t, access.Grant{Name: "young", Role: access.Reader}, young) + "\n"
	write(t, path, first)
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		f, err := access.Open(path, zerolog.New(&log))
		if err != nil {
			t.Fatal(err)
		}
		valid := func(token string) bool {
			time.Sleep(time.Second)
			_, err := f.Tokens().Find(hash(t, token), time.Now())
			return err == nil
		}
		if !valid(old) || valid(young) || log.Len() > 0 {
			t.Fatalf("at first: %s", &log)
		}
		// In place.
		write(t, path, first+second)
		if !valid(old) || !valid(young) || !strings.Contains(log.String(), "read again") {
			t.Fatalf("a token was added: %s", &log)
		}
		log.Reset()
		// Broken: nothing changes, and the log says so once.
		write(t, path, second+"{\"name\":\n")
		for range 3 {
			if !valid(old) || !valid(young) {
				t.Fatal("a broken file took away a token")
			}
		}
		if s := log.String(); strings.Count(s, "\n") != 1 || !strings.Contains(s, "line 2: ") || !strings.Contains(s, path) || !strings.Contains(s, `"level":"error"`) {
			t.Fatalf("the log: %s", s)
		}
		log.Reset()
		// Gone.
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if !valid(old) || !valid(young) || strings.Count(log.String(), "\n") != 1 {
			t.Fatalf("a file that is gone: %s", &log)
		}
		// Replaced by renaming, as editors and Kubernetes do.
		write(t, path+".new", second)
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
		if valid(old) || !valid(young) {
			t.Fatal("a token that was taken away is still valid")
		}
		if strings.Contains(log.String(), old) || strings.Contains(log.String(), young) {
			t.Fatal("a token is in the log")
		}
	})
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "tokens")
	write(t, path, "\n{}\n")
	for at, want := range map[string]string{path: "line 2: ", dir: "folder", filepath.Join(dir, "none"): "none"} {
		if _, err := access.Open(at, zerolog.Nop()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", at, err)
		}
	}
	if _, err := access.Open(filepath.Join(dir, "none"), zerolog.Nop()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v is not said to be missing", err)
	}
}

func TestSecretIsReadAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	one, two := access.NewToken(), access.NewToken()
	write(t, path, one+"\r\n")
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		s, err := access.OpenSecret(path, zerolog.New(&log))
		if err != nil || s.Token() != one {
			t.Fatal(err)
		}
		write(t, path, two)
		if s.Token() != one { // it was looked at just now
			t.Error("the file is read at every request")
		}
		time.Sleep(time.Second)
		if s.Token() != two {
			t.Error("another token is not read")
		}
		write(t, path, "not a token, but secret")
		time.Sleep(time.Second)
		if s.Token() != two || !strings.Contains(log.String(), "not a token") || strings.Contains(log.String(), "but secret") {
			t.Errorf("a broken file: %s", &log)
		}
	})
	write(t, path, "")
	if _, err := access.ReadSecret(path); err == nil {
		t.Error("an empty file is taken for a token")
	}
}
