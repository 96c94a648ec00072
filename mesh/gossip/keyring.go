package gossip

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/memberlist"
	"github.com/rs/zerolog"
)

const (
	// MaxKeys is how many keys a keyring holds.
	MaxKeys = 16
	// maxKeyringFile is how many bytes of a keyring's file are read.
	maxKeyringFile = 16 << 10
)

// What is wrong with a change of a keyring.
var (
	ErrNoKey      = errors.New("gossip: the keyring has no such key")
	ErrPrimaryKey = errors.New("gossip: this is the primary key, with which this member encrypts; use another one first")
)

// Keyring is the keys of a member: it encrypts with the first, the primary, and understands all. Its methods may be called from any
// goroutine. A change is on disk before it takes effect, and what somebody else writes there is taken over by Reload.
type Keyring struct {
	path string // empty: in memory only
	log  zerolog.Logger

	mu      sync.Mutex
	json    bool   // the file is
	content []byte // of the file, as far as it is known
	broken  []byte // content that Reload has refused, so that it is told once
	keys    []Key  // replaced, never changed in place
	// ring is memberlist's. Keys are only added to it: its RemoveKey writes where its readers read. What was removed here does not get past the
	// gate, so memberlist never sees it.
	ring *memberlist.Keyring
}

// NewKeyring holds keys in memory; the first is the primary.
func NewKeyring(keys ...Key) (*Keyring, error) {
	k := &Keyring{log: zerolog.Nop()}
	return k, k.set(keys)
}

// OpenKeyring reads the keys from a file, which it rewrites when they change: a JSON array of strings, or one key on a line. Keys are in
// base64 and the first is the primary. It warns of a file that others may read.
func OpenKeyring(path string, log zerolog.Logger) (*Keyring, error) {
	fail := func(err error) (*Keyring, error) { return nil, fmt.Errorf("gossip: keyring: %w", err) }
	k := &Keyring{path: path, log: log}
	b, err := k.read()
	if err != nil {
		return fail(err)
	}
	if st, err := os.Stat(path); err == nil && st.Mode().Perm()&^0o600 != 0 && runtime.GOOS != "windows" {
		log.Warn().Str("file", path).Stringer("mode", st.Mode().Perm()).Msg("others on this machine may read the gossip's keys: chmod 600 the file")
	}
	keys, asJSON, err := parse(b)
	if err == nil {
		err = k.set(keys)
	}
	if err != nil {
		return nil, fmt.Errorf("%w (in %s; fedmesh keygen makes a key)", err, path)
	}
	k.content, k.json = b, asJSON
	return k, nil
}

func (k *Keyring) read() ([]byte, error) {
	f, err := os.Open(k.path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxKeyringFile+1))
}

// Reload takes over what somebody else has written into the file. With an error the keys stay as they are.
func (k *Keyring) Reload() error {
	if k.path == "" {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	b, err := k.read()
	if err == nil && bytes.Equal(b, k.content) {
		k.broken = nil
		return nil
	}
	var keys []Key
	var asJSON bool
	if err == nil {
		keys, asJSON, err = parse(b)
	}
	if err == nil {
		keys, err = unique(keys)
	}
	if err != nil {
		if k.broken == nil || !bytes.Equal(b, k.broken) {
			k.broken = append([]byte{}, b...)
			k.log.Error().Err(err).Str("file", k.path).Msg("the changed file of the gossip's keys is not taken; the keys stay as they are")
		}
		return fmt.Errorf("gossip: keyring: %w", err)
	}
	for _, key := range keys {
		if err := k.ring.AddKey(key); err != nil {
			return fmt.Errorf("gossip: keyring: %w", err)
		}
	}
	if err := k.ring.UseKey(keys[0]); err != nil {
		return fmt.Errorf("gossip: keyring: %w", err)
	}
	k.keys, k.content, k.json, k.broken = keys, b, asJSON, nil
	k.log.Info().Str("primary", keys[0].Fingerprint()).Int("keys", len(keys)).Msg("the changed file of the gossip's keys was read")
	return nil
}

// parse reads a file's content, in either of the two formats.
func parse(b []byte) (keys []Key, asJSON bool, err error) {
	if len(b) > maxKeyringFile {
		return nil, false, fmt.Errorf("gossip: more than %d bytes are no keyring", maxKeyringFile)
	}
	b = bytes.TrimSpace(b)
	var texts []string
	if asJSON = bytes.HasPrefix(b, []byte("[")); asJSON {
		if err := json.Unmarshal(b, &texts); err != nil {
			return nil, false, errors.New("gossip: a keyring that begins with [ must be a JSON array of strings")
		}
	} else {
		for line := range strings.Lines(string(b)) {
			if line = strings.TrimSpace(line); line != "" {
				texts = append(texts, line)
			}
		}
	}
	keys = make([]Key, len(texts))
	for i, text := range texts {
		if keys[i], err = ParseKey(text); err != nil {
			return nil, false, fmt.Errorf("%w (key %d)", err, i+1)
		}
	}
	return keys, asJSON, nil
}

// unique copies keys, each once.
func unique(keys []Key) ([]Key, error) {
	if len(keys) == 0 || len(keys) > MaxKeys {
		return nil, fmt.Errorf("gossip: a keyring of %d keys; it must have 1 to %d", len(keys), MaxKeys)
	}
	var out []Key
	for _, key := range keys {
		if !slices.ContainsFunc(out, func(k Key) bool { return bytes.Equal(k, key) }) {
			out = append(out, bytes.Clone(key))
		}
	}
	return out, nil
}

// set takes the first keys.
func (k *Keyring) set(keys []Key) (err error) {
	if k.keys, err = unique(keys); err != nil {
		return err
	}
	k.ring = &memberlist.Keyring{}
	for _, key := range k.keys {
		if err := k.ring.AddKey(key); err != nil {
			return fmt.Errorf("gossip: keyring: %w", err)
		}
	}
	return nil
}

// snapshot returns the keys, the primary first. The caller must not change them.
func (k *Keyring) snapshot() []Key {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.keys
}

// Fingerprints lists the keys, the primary first.
func (k *Keyring) Fingerprints() []string {
	keys := k.snapshot()
	names := make([]string, len(keys))
	for i, key := range keys {
		names[i] = key.Fingerprint()
	}
	return names
}

// find returns a key's place, or -1. It is called with k.mu held, or before anybody else has k.
func (k *Keyring) find(fingerprint string) int {
	return slices.IndexFunc(k.keys, func(key Key) bool { return key.Fingerprint() == fingerprint })
}

// Install adds a key: from now on what it encrypts is understood. One that is there already is no error.
func (k *Keyring) Install(key Key) error {
	if err := memberlist.ValidateKey(key); err != nil {
		return fmt.Errorf("gossip: %w", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.find(key.Fingerprint()) >= 0 {
		return nil
	}
	if len(k.keys) >= MaxKeys {
		return fmt.Errorf("gossip: the keyring holds %d keys already; remove one first", len(k.keys))
	}
	key = bytes.Clone(key)
	return k.change(append(slices.Clone(k.keys), key), func() error { return k.ring.AddKey(key) })
}

// Use makes a key that is installed the primary.
func (k *Keyring) Use(fingerprint string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	i := k.find(fingerprint)
	if i <= 0 {
		if i < 0 {
			return ErrNoKey
		}
		return nil
	}
	key := k.keys[i]
	return k.change(slices.Insert(slices.Delete(slices.Clone(k.keys), i, i+1), 0, key), func() error { return k.ring.UseKey(key) })
}

// Remove drops a key: what it encrypts is refused from now on. The primary is kept; a key that is not there is no error.
func (k *Keyring) Remove(fingerprint string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch i := k.find(fingerprint); i {
	case -1:
		return nil
	case 0:
		return ErrPrimaryKey
	default:
		return k.change(slices.Delete(slices.Clone(k.keys), i, i+1), func() error { return nil })
	}
}

// change writes keys and then takes them over. It is called with k.mu held.
func (k *Keyring) change(keys []Key, apply func() error) error {
	if k.path != "" {
		if err := k.write(keys); err != nil {
			return fmt.Errorf("gossip: the keyring's file could not be rewritten, so the keys stay as they are: %w", err)
		}
	}
	if err := apply(); err != nil {
		return fmt.Errorf("gossip: keyring: %w", err)
	}
	k.keys = keys
	k.log.Info().Str("primary", keys[0].Fingerprint()).Int("keys", len(keys)).Msg("the gossip's keys changed")
	return nil
}

// write replaces the file at once: after a crash it holds the old keys or the new ones.
func (k *Keyring) write(keys []Key) error {
	texts := make([]string, len(keys))
	for i, key := range keys {
		texts[i] = key.Text()
	}
	content := []byte(strings.Join(texts, "\n") + "\n")
	if k.json {
		b, err := json.MarshalIndent(texts, "", "  ")
		if err != nil {
			return err
		}
		content = append(b, '\n')
	}
	// What a link points to is rewritten, not the link.
	path, err := filepath.EvalSymlinks(k.path)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".keyring-*") // readable by the owner only
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	syncDir(filepath.Dir(path))
	k.content = content
	return nil
}

// syncDir makes a rename last through a power cut where the system can. Where it cannot, the old file is as good as the new one until the
// peer is told again.
func syncDir(dir string) {
	if d, err := os.Open(dir); err == nil {
		_ = d.Sync()
		_ = d.Close()
	}
}
