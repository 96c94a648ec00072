package gossip_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/rs/zerolog"
	"pgregory.net/rapid"

	"github.com/fedmesh/fedmesh/mesh/gossip"
)

func keys(n int) []gossip.Key {
	out := make([]gossip.Key, n)
	for i := range out {
		out[i] = bytes.Repeat([]byte{byte(i + 1)}, []int{16, 24, 32}[i%3])
	}
	return out
}

func names(ks ...gossip.Key) []string {
	var out []string
	for _, k := range ks {
		out = append(out, k.Fingerprint())
	}
	return out
}

func TestParseKey(t *testing.T) {
	for _, k := range append(keys(3), gossip.NewKey()) {
		got, err := gossip.ParseKey("  " + k.Text() + "\n")
		if err != nil || !bytes.Equal(got, k) {
			t.Errorf("%v: %v, %v", []byte(k), got, err)
		}
		if s := k.String(); len(s) != 16 || strings.Contains(k.Text(), s) {
			t.Errorf("fingerprint %q of %s", s, k.Text())
		}
	}
	for _, bad := range []string{"", "secret?", gossip.Key("fifteen bytes..").Text(), gossip.Key(strings.Repeat("s", 33)).Text()} {
		if _, err := gossip.ParseKey(bad); err == nil || bad != "" && strings.Contains(err.Error(), bad) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// open writes a keyring's file and opens it.
func open(t *testing.T, content string, mode os.FileMode) (*gossip.Keyring, string, *bytes.Buffer, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keyring")
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	k, err := gossip.OpenKeyring(path, zerolog.New(&log))
	return k, path, &log, err
}

func TestKeyringFile(t *testing.T) {
	ks := keys(3)
	asJSON, _ := json.Marshal([]string{ks[0].Text(), ks[1].Text()})
	for format, content := range map[string]string{
		"lines": ks[0].Text() + "\n\n  " + ks[1].Text() + " \r\n" + ks[0].Text(),
		"json":  "\n" + string(asJSON),
	} {
		k, path, log, err := open(t, content, 0o600)
		if err != nil {
			t.Fatal(format, err)
		}
		if got := k.Fingerprints(); !slices.Equal(got, names(ks[0], ks[1])) {
			t.Errorf("%s: %v", format, got)
		}
		if log.Len() > 0 {
			t.Errorf("%s: %s", format, log)
		}
		// Changes are there after a restart, in the file's own format, and only the owner reads them.
		for _, err := range []error{
			k.Install(ks[2]), k.Install(ks[2]), k.Use(ks[2].Fingerprint()), k.Use(ks[2].Fingerprint()), k.Remove(ks[0].Fingerprint()), k.Remove(ks[0].Fingerprint()),
		} {
			if err != nil {
				t.Error(format, err)
			}
		}
		again, err := gossip.OpenKeyring(path, zerolog.Nop())
		if err != nil {
			t.Fatal(format, err)
		}
		want := names(ks[2], ks[1])
		if got := again.Fingerprints(); !slices.Equal(got, want) || !slices.Equal(k.Fingerprints(), want) {
			t.Errorf("%s: %v after a restart, %v before, want %v", format, got, k.Fingerprints(), want)
		}
		b, _ := os.ReadFile(path)
		if strings.HasPrefix(string(b), "[") != (format == "json") {
			t.Errorf("%s was rewritten as %s", format, b)
		}
		if st, _ := os.Stat(path); runtime.GOOS != "windows" && st.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v", format, st.Mode())
		}
		if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 1 {
			t.Errorf("%s: %v left behind", format, left)
		}
		for _, err := range []error{k.Remove(ks[2].Fingerprint()), k.Use(ks[0].Fingerprint())} {
			if !errors.Is(err, gossip.ErrPrimaryKey) && !errors.Is(err, gossip.ErrNoKey) {
				t.Errorf("%s: %v", format, err)
			}
		}
	}
}

func TestKeyringFileFaults(t *testing.T) {
	good := keys(1)[0].Text()
	for content, says := range map[string]string{
		"":                                 "0 keys",
		" \n\n":                            "0 keys",
		"[]":                               "0 keys",
		"[\"" + good:                       "JSON array",
		"[1]":                              "JSON array",
		good + "\n" + "nonsense!":          "key 2",
		good + "\n" + good[:20]:            "key 2",
		strings.Repeat(good+"\n", 1000):    "bytes are no keyring",
		many(17):                           "17 keys",
		"[\"" + good + "\", \"" + "AAA\"]": "key 2",
	} {
		_, path, _, err := open(t, content, 0o600)
		if err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), path) {
			t.Errorf("%.40q: %v does not say %q and the file", content, err, says)
		}
		if err != nil && strings.Contains(err.Error(), good) {
			t.Errorf("a key is in the error: %v", err)
		}
	}
	if _, err := gossip.OpenKeyring(filepath.Join(t.TempDir(), "none"), zerolog.Nop()); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if _, err := gossip.NewKeyring(); err == nil {
		t.Error("a keyring without keys")
	}
}

func many(n int) string {
	var b strings.Builder
	for range n {
		b.WriteString(gossip.NewKey().Text() + "\n")
	}
	return b.String()
}

func TestLooseKeyringFile(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no modes")
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o700} {
		k, path, log, err := open(t, keys(1)[0].Text(), mode)
		if err != nil || !strings.Contains(log.String(), "chmod 600") || !strings.Contains(log.String(), path) {
			t.Errorf("%v: %v, %s", mode, err, log)
		}
		if err := k.Install(keys(2)[1]); err != nil {
			t.Error(err)
		}
		if st, _ := os.Stat(path); st.Mode().Perm() != 0o600 {
			t.Errorf("rewritten with %v", st.Mode())
		}
	}
}

// TestKeyringThatCannotBeWritten: what is not on disk does not take effect.
func TestKeyringThatCannotBeWritten(t *testing.T) {
	ks := keys(3)
	k, path, _, err := open(t, ks[0].Text()+"\n"+ks[1].Text(), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Dir(path)); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{k.Install(ks[2]), k.Use(ks[1].Fingerprint()), k.Remove(ks[1].Fingerprint())} {
		if err == nil || !strings.Contains(err.Error(), "stay as they are") {
			t.Error(err)
		}
	}
	if got := k.Fingerprints(); !slices.Equal(got, names(ks[0], ks[1])) {
		t.Error(got)
	}
}

// TestKeyringLink: a link, as a mounted secret is, stays one.
func TestKeyringLink(t *testing.T) {
	ks := keys(2)
	_, path, _, err := open(t, ks[0].Text(), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(path, link); err != nil {
		t.Skip(err)
	}
	k, err := gossip.OpenKeyring(link, zerolog.Nop())
	if err == nil {
		err = k.Install(ks[1])
	}
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Lstat(link); err != nil || st.Mode()&os.ModeSymlink == 0 {
		t.Error("the link was replaced", err)
	}
	if again, err := gossip.OpenKeyring(path, zerolog.Nop()); err != nil || len(again.Fingerprints()) != 2 {
		t.Error("the file was not", err)
	}
}

func TestSeal(t *testing.T) {
	ks := keys(3)
	rapid.Check(t, func(rt *rapid.T) {
		from, _ := gossip.NewKeyring(ks[1], ks[2])
		to, _ := gossip.NewKeyring(ks[0], ks[1])
		plain := rapid.SliceOf(rapid.Byte()).Draw(rt, "plain")
		sealed, err := from.Seal(plain, []byte("context"))
		if err != nil {
			rt.Fatal(err)
		}
		if got, err := to.Open(sealed, []byte("context")); err != nil || !bytes.Equal(got, plain) {
			rt.Fatal(got, err)
		}
		if _, err := to.Open(sealed, []byte("other")); !errors.Is(err, gossip.ErrUnauthentic) {
			rt.Fatal("another context", err)
		}
		if err := to.Remove(ks[1].Fingerprint()); err != nil {
			rt.Fatal(err)
		}
		if _, err := to.Open(sealed, []byte("context")); !errors.Is(err, gossip.ErrUnauthentic) {
			rt.Fatal("a removed key", err)
		}
		bit := rapid.IntRange(0, 8*len(sealed)-1).Draw(rt, "bit")
		sealed[bit/8] ^= 1 << (bit % 8)
		if _, err := from.Open(sealed, []byte("context")); !errors.Is(err, gossip.ErrUnauthentic) {
			rt.Fatal("altered", err)
		}
		cut := rapid.IntRange(0, len(sealed)-1).Draw(rt, "cut")
		if _, err := from.Open(sealed[:cut], []byte("context")); !errors.Is(err, gossip.ErrUnauthentic) {
			rt.Fatal("cut short", err)
		}
	})
}

// TestKeyringRace changes keys while they are in use.
func TestKeyringRace(t *testing.T) {
	ks := keys(4)
	k, _ := gossip.NewKeyring(ks[0], ks[1])
	var wg sync.WaitGroup
	for _, f := range []func(){
		func() { _ = k.Install(ks[2]); _ = k.Remove(ks[2].Fingerprint()) },
		func() { _ = k.Use(ks[1].Fingerprint()); _ = k.Use(ks[0].Fingerprint()) },
		func() {
			s, _ := k.Seal([]byte("x"), nil)
			if _, err := k.Open(s, nil); err != nil {
				t.Error(err)
			}
		},
		func() { _ = k.Fingerprints() },
	} {
		wg.Go(func() {
			for range 200 {
				f()
			}
		})
	}
	wg.Wait()
}

// TestReloadKeyring: what somebody else writes is taken over, unless it is no keyring.
func TestReloadKeyring(t *testing.T) {
	ks := keys(4)
	k, path, log, err := open(t, ks[0].Text(), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	want := names(ks[0])
	write := func(content string) error {
		t.Helper()
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return k.Reload()
	}
	check := func(what string) {
		t.Helper()
		if got := k.Fingerprints(); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
		// Memberlist encrypts with the primary, and so does Seal.
		primary, _ := gossip.NewKeyring(ks[slices.IndexFunc(ks, func(x gossip.Key) bool { return x.Fingerprint() == want[0] })])
		b, err := k.Seal([]byte("x"), nil)
		if err == nil {
			_, err = primary.Open(b, nil)
		}
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := k.Reload(); err != nil || log.Len() > 0 {
		t.Error(err, log)
	}
	for i := range 2 {
		for _, bad := range []string{"", "nonsense", many(17)} {
			if write(bad) == nil {
				t.Errorf("%.20q was taken", bad)
			}
			_ = k.Reload()
			check("after what is no keyring")
		}
		if n := strings.Count(log.String(), "is not taken"); n != 3*(i+1) {
			t.Errorf("told %d times", n)
		}
	}
	if err := write(ks[1].Text() + "\n" + ks[0].Text()); err != nil {
		t.Error(err)
	}
	want = names(ks[1], ks[0])
	check("two keys")
	if err := k.Install(ks[2]); err != nil {
		t.Error(err)
	}
	want = append(want, ks[2].Fingerprint())
	if err := k.Reload(); err != nil {
		t.Error(err)
	}
	check("its own change")
	if err := write("[\"" + ks[3].Text() + "\"]"); err != nil {
		t.Error(err)
	}
	want = names(ks[3])
	check("JSON")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if k.Reload() == nil {
		t.Error("no file")
	}
	check("without the file")
}
