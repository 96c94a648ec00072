package access_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/fedmesh/fedmesh/mesh/access"
)

func hash(t testing.TB, token string) access.Hash {
	t.Helper()
	h, err := access.HashOf(token)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func lineOf(t testing.TB, g access.Grant, token string) string {
	t.Helper()
	l, err := access.Line(g, hash(t, token))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestTokensAreOfOneForm(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		token := access.NewToken()
		if seen[token] || len(token) != 51 || !strings.HasPrefix(token, "fedmesh_") {
			t.Fatalf("token %q", token)
		}
		seen[token] = true
		hash(t, token)
	}
	good := access.NewToken()
	for _, bad := range []string{
		"", "fedmesh_", good[:50], good + "A", good + "\n", " " + good, strings.ToUpper(good), good[8:], "fedmesh_" + strings.Repeat("!", 43), "fedmesh_" + strings.Repeat("a", 42) + "=",
		"fedmesh_" + strings.Repeat("A", 42) + "B", // bits behind the 256th: another text for the same token
		"hunter2", strings.Repeat("a", 1<<16),
	} {
		if h, err := access.HashOf(bad); !errors.Is(err, access.ErrForm) || h != (access.Hash{}) {
			t.Errorf("%.60q is taken for a token: %v", bad, err)
		}
	}
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	name := rapid.StringMatching(`[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}`)
	rapid.Check(t, func(t *rapid.T) {
		g := access.Grant{Name: name.Draw(t, "name"), Role: rapid.SampledFrom(access.Roles()).Draw(t, "role")}
		if g.Role == access.Combiner {
			g.Combiner = rapid.OneOf(rapid.Just(""), name).Draw(t, "combiner")
			g.Sessions = rapid.OneOf(rapid.Just([]string(nil)), rapid.SliceOfN(name, 1, 3)).Draw(t, "sessions")
		}
		if rapid.Bool().Draw(t, "expires") {
			g.Expires = time.Unix(rapid.Int64Range(1, 4e9).Draw(t, "at"), 0).UTC()
		}
		token := access.NewToken()
		h, _ := access.HashOf(token)
		l, err := access.Line(g, h)
		if err != nil || strings.Contains(l, token) || strings.Contains(l, token[8:]) {
			t.Fatalf("%s, %v", l, err)
		}
		set, err := access.Parse([]byte("# tokens\r\n\r\n" + l))
		if err != nil || set.Len() != 1 || !set.Has(g.Role) || !set.HasName(g.Name) {
			t.Fatalf("%s: %v", l, err)
		}
		got, err := set.Find(h, time.Unix(0, 0))
		if err != nil || fmt.Sprint(got) != fmt.Sprint(g) {
			t.Fatalf("%v came back as %v, %v", g, got, err)
		}
	})
}

// TestFaults asks of every fault that it names its line.
func TestFaults(t *testing.T) {
	good := lineOf(t, access.Grant{Name: "a", Role: access.Reader}, access.NewToken())
	h := hash(t, access.NewToken()).String()
	for fault, want := range map[string]string{
		`nonsense`:                     "not a token as fedmesh token new writes it",
		`{"name":"x"`:                  "ends too early",
		`[]`:                           "not a token",
		`null`:                         `"sha256" is missing`,
		`{"name":"x","role":"reader"}`: `"sha256" is missing`,
		`{"name":"x","role":"reader","sha256":"` + h[:62] + `"}`:                                "64 hex digits",
		`{"name":"x","role":"reader","sha256":"` + h + `00"}`:                                   "64 hex digits",
		`{"name":"x","role":"reader","sha256":"` + strings.Repeat("g", 64) + `"}`:               "64 hex digits",
		`{"name":"x","role":"admin","sha256":"` + h + `"}`:                                      "none of combiner, reader, operator, peer",
		`{"role":"reader","sha256":"` + h + `"}`:                                                "is no name",
		`{"name":"a b","role":"reader","sha256":"` + h + `"}`:                                   "is no name",
		`{"name":"a","role":"reader","sha256":"` + h + `"}`:                                     "is line 2's",
		strings.Replace(good, `"a"`, `"b"`, 1):                                                  "same as in line 2",
		`{"name":"x","role":"combiner","session":["s"],"sha256":"` + h + `"}`:                   "unknown field",
		`{"name":"x","role":"combiner","sessions":[],"sha256":"` + h + `"}`:                     "leave it out",
		`{"name":"x","role":"combiner","sessions":["../s"],"sha256":"` + h + `"}`:               "is no name",
		`{"name":"x","role":"reader","sessions":["s"],"sha256":"` + h + `"}`:                    "only a combiner's",
		`{"name":"x","role":"peer","combiner":"c","sha256":"` + h + `"}`:                        "only a combiner's",
		`{"name":"x","role":"reader","expires":"tomorrow","sha256":"` + h + `"}`:                "not a token",
		`{"name":"x","role":"reader","expires":"0001-01-01T00:00:00Z","sha256":"` + h + `"}`:    "year 1",
		`{"name":"x","role":"reader","sha256":"` + h + `"} {}`:                                  "line of its own",
		`{"name":"x","role":"reader","token":"` + access.NewToken() + `","sha256":"` + h + `"}`: "unknown field",
	} {
		set, err := access.Parse([]byte("# one good, one not\n" + good + "\n\n" + fault + "\n"))
		if err == nil || set != nil {
			t.Errorf("%s: is taken", fault)
			continue
		}
		if s := err.Error(); !strings.HasPrefix(s, "line 4: ") || !strings.Contains(s, want) || strings.Contains(s, "\n") {
			t.Errorf("%s: %q, which does not say %q of line 4", fault, s, want)
		}
	}
	_, err := access.Parse([]byte("a\n" + good + "\nb\n"))
	if s := fmt.Sprint(err); !strings.Contains(s, "line 1: ") || !strings.Contains(s, "line 3: ") {
		t.Errorf("both faults are to be named: %v", err)
	}
	if _, err := access.Parse(make([]byte, access.MaxFile+1)); err == nil {
		t.Error("a huge file is taken")
	}
	_, err = access.Parse([]byte(strings.Repeat("x\n", 1_000_000)))
	if n := strings.Count(fmt.Sprint(err), "\n"); n > 30 {
		t.Errorf("%d faults are listed", n)
	}
	if set, err := access.Parse(nil); err != nil || set.Len() != 0 {
		t.Errorf("an empty file lets nobody in, and is none: %v", err)
	}
}

func TestFind(t *testing.T) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	var file strings.Builder
	tokens := make([]string, 50)
	for i := range tokens {
		tokens[i] = access.NewToken()
		g := access.Grant{Name: fmt.Sprint("t", i), Role: access.Reader}
		if i == 7 {
			g.Expires = now
		}
		file.WriteString(lineOf(t, g, tokens[i]) + "\n")
	}
	set, err := access.Parse([]byte(file.String()))
	if err != nil {
		t.Fatal(err)
	}
	for i, token := range tokens {
		if g, err := set.Find(hash(t, token), now.Add(-time.Second)); err != nil || g.Name != fmt.Sprint("t", i) {
			t.Errorf("token %d: %v, %v", i, g, err)
		}
	}
	if g, err := set.Find(hash(t, tokens[7]), now); !errors.Is(err, access.ErrExpired) || g.Name != "t7" {
		t.Errorf("the moment it expires: %v, %v", g, err)
	}
	if _, err := set.Find(hash(t, access.NewToken()), now); !errors.Is(err, access.ErrUnknown) {
		t.Errorf("a token of another mesh: %v", err)
	}
	if _, err := set.Find(access.Hash{}, now); !errors.Is(err, access.ErrUnknown) {
		t.Errorf("no token: %v", err)
	}
}

// TestRoles says for each need who may, in a table of its own.
func TestRoles(t *testing.T) {
	const c, r, o, p = access.Combiner, access.Reader, access.Operator, access.Peer
	may := map[access.Need][]access.Role{
		access.ToAnybody: {c, r, o, p}, access.ToRead: {r, o}, access.ToFollow: {c, r, o}, access.ToPush: {c, o}, access.ToOperate: {o}, access.ToPeer: {p},
		200: {o}, // what nobody has thought of
	}
	for need, roles := range may {
		for _, role := range access.Roles() {
			if got, want := (access.Grant{Role: role}).May(need), slices.Contains(roles, role); got != want {
				t.Errorf("%s, %s: %v", role, need, got)
			}
		}
		if (access.Grant{}).May(need) != (need == access.ToAnybody) {
			t.Errorf("no role: may %s", need)
		}
	}
	var zero access.Need
	if zero != access.ToOperate {
		t.Error("what has no rule is not the operator's")
	}
}

func TestBinding(t *testing.T) {
	free := access.Grant{Role: access.Combiner}
	bound := access.Grant{Role: access.Combiner, Combiner: "c1", Sessions: []string{"s", strings.Repeat("ab", 32)}}
	if free.Bound() || !free.ForCombiner("c2") || !free.ForSession("x") || !free.ForSession() {
		t.Error("a free token is bound")
	}
	if !bound.Bound() || bound.ForCombiner("c2") || bound.ForCombiner("") || !bound.ForCombiner("c1") {
		t.Error("combiner")
	}
	if bound.ForSession("x") || bound.ForSession() || bound.ForSession("") || !bound.ForSession("x", "s") || !bound.ForSession(strings.Repeat("ab", 32)) {
		t.Error("sessions")
	}
}

func FuzzTokensFile(f *testing.F) {
	f.Add([]byte(lineOf(f, access.Grant{Name: "a", Role: access.Reader, Expires: time.Unix(1e9, 0)}, access.NewToken())))
	f.Add([]byte(lineOf(f, access.Grant{Name: "c", Role: access.Combiner, Combiner: "c", Sessions: []string{"s"}}, access.NewToken()) + "\n# more\n\n{"))
	f.Fuzz(func(t *testing.T, b []byte) {
		set, err := access.Parse(b)
		if (set == nil) == (err == nil) {
			t.Fatalf("%v, %v", set, err)
		}
		if err == nil {
			_, _ = set.Find(access.Hash{}, time.Now())
		}
	})
}
