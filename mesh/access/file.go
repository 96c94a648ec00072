package access

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// lookEvery is how often it is looked whether a file has changed.
const lookEvery = time.Second

// File is a tokens file. See the package's comment for when it is read.
type File struct{ kept kept[*Set] }

// Open reads a tokens file, which must be good.
func Open(path string, log zerolog.Logger) (*File, error) {
	f := &File{kept[*Set]{path: path, what: "tokens file", limit: MaxFile, parse: Parse, log: log}}
	return f, f.kept.open()
}

// Tokens returns what the file says, or last said when it was good.
func (f *File) Tokens() *Set { return f.kept.get() }

// Secret is a file with one token. See the package's comment for when it is read.
type Secret struct{ kept kept[string] }

// OpenSecret reads the file, which must be good.
func OpenSecret(path string, log zerolog.Logger) (*Secret, error) {
	s := &Secret{kept[string]{path: path, what: "file with a token", limit: 4096, parse: parseSecret, log: log}}
	return s, s.kept.open()
}

// Token returns the token.
func (s *Secret) Token() string { return s.kept.get() }

// ReadSecret reads a file with one token once.
func ReadSecret(path string) (string, error) {
	s, err := OpenSecret(path, zerolog.Nop())
	if err != nil {
		return "", err
	}
	return s.Token(), nil
}

func parseSecret(b []byte) (string, error) {
	token := strings.TrimSpace(string(b))
	_, err := HashOf(token)
	return token, err
}

// kept is what was last good in a file.
type kept[T any] struct {
	path, what string
	limit      int64
	parse      func([]byte) (T, error)
	log        zerolog.Logger

	mu     sync.Mutex
	value  T
	read   os.FileInfo // of the file when it was last read
	looked time.Time
	fault  string // the last that was logged
}

func (k *kept[T]) open() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.looked = time.Now()
	return k.load()
}

func (k *kept[T]) get() T {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	if now.Sub(k.looked) < lookEvery {
		return k.value
	}
	k.looked = now
	st, err := os.Stat(k.path)
	if err == nil && k.same(st) {
		return k.value
	}
	if err == nil {
		err = k.load()
	}
	switch {
	case err == nil:
		k.fault = ""
		k.log.Info().Str("file", k.path).Msg("the " + k.what + " was read again")
	case err.Error() != k.fault:
		k.fault = err.Error()
		k.log.Error().Err(err).Str("file", k.path).Msg("the " + k.what + " is not good; what was valid before stays valid")
	}
	return k.value
}

// same reports whether the file is still as it was read.
func (k *kept[T]) same(st os.FileInfo) bool {
	return k.read != nil && os.SameFile(k.read, st) && st.Size() == k.read.Size() && st.ModTime().Equal(k.read.ModTime())
}

// load reads the file. It is called with mu held.
func (k *kept[T]) load() error {
	f, err := os.Open(k.path)
	if err != nil {
		return fmt.Errorf("access: %w", err)
	}
	defer f.Close()
	st, err := f.Stat() // before it is read: what is written meanwhile shows the next time
	if err != nil {
		return fmt.Errorf("access: %w", err)
	}
	if st.IsDir() {
		return fmt.Errorf("access: %w", &fs.PathError{Op: "read", Path: k.path, Err: errors.New("it is a folder")})
	}
	b, err := io.ReadAll(io.LimitReader(f, k.limit+1))
	if err != nil {
		return fmt.Errorf("access: %w", err)
	}
	k.read = st
	if int64(len(b)) > k.limit {
		return fmt.Errorf("access: %s: more than %d bytes", k.path, k.limit)
	}
	v, err := k.parse(b)
	if err != nil {
		return fmt.Errorf("access: %s: %w", k.path, err)
	}
	k.value = v
	return nil
}
