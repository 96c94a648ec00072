package fedmesh_test

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/fedmesh/fedmesh"

// layers are the folders of the module from the bottom up. A package may import
// its own layer and those below it.
var layers = []struct{ dir, why string }{
	{"model", "model knows bytes and tensors, not what is done with them"},
	{"aggregate", "aggregate sums models; who asked and over which wire is the mesh's business"},
	{"mesh", "mesh is a library; only a command may import a command"},
	{"cmd", ""},
}

// pureDirs hold what must give the same bits on every machine and in every
// order: whatever they depend on must come in as an argument.
var pureDirs = []string{"model", "aggregate", "mesh/ledger"}

// impureImports are the packages, each with those below it, that a pure package
// must not import.
var impureImports = []struct{ path, why string }{
	{"os", "files are handed in as io interfaces, so that the caller decides where bytes live"},
	{"net", "tensors and entries are handed in as readers and slices; the mesh owns the wire"},
	{"time", "time enters as an argument, as a number: a clock would make results depend on when they were asked for"},
	{"sync", "no locks, because nothing here is shared: the caller owns concurrency"},
	{"math/rand", "the same input gives the same bits; randomness is seeded by the caller"},
	{"crypto/rand", "the same input gives the same bits; randomness is seeded by the caller"},
	{"log", "report through results and errors; the caller logs"},
	{"testing", "test helpers belong into _test.go files"},
}

// thirdParty is what a pure package may import from outside the standard
// library and this module. Everything else (a logger, a metrics library, a
// client) is refused.
var thirdParty = []struct{ dir, path, why string }{
	{"model", "github.com/zeebo/blake3", "the digest of a model"},
	{"model", "github.com/klauspost/compress", "npz members may be deflated"},
	{"aggregate", "github.com/zeebo/blake3", "noise is drawn from the stream of a keyed digest"},
	{"aggregate", "golang.org/x/sys/cpu", "which kernel the machine can run; all give the same bits"},
	{"mesh/ledger", "github.com/zeebo/blake3", "entries are chained by digest"},
	{"mesh/ledger", "github.com/vmihailenco/msgpack/v5", "the encoding of entries"},
}

// ledgerBelow is what mesh/ledger may import from this module.
var ledgerBelow = []string{"model", "mesh/ledger"}

// A source is one Go file of the module, parsed.
type source struct {
	path    string // relative to the root, with slashes
	file    *ast.File
	fset    *token.FileSet
	bubbles bool // the tests of its package use synctest
}

func (s source) dir() string {
	if i := strings.LastIndexByte(s.path, '/'); i >= 0 {
		return s.path[:i]
	}
	return "."
}

func (s source) test() bool { return strings.HasSuffix(s.path, "_test.go") }

func (s source) line(p token.Pos) string {
	return fmt.Sprintf("%s:%d", s.path, s.fset.Position(p).Line)
}

// imports gives the file's import paths.
func (s source) imports() []string {
	var out []string
	for _, im := range s.file.Imports {
		p, _ := strconv.Unquote(im.Path.Value)
		out = append(out, p)
	}
	return out
}

// under says whether path is dir or below it.
func under(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, dir+"/")
}

func underAny(path string, dirs []string) bool {
	return slices.ContainsFunc(dirs, func(d string) bool { return under(path, d) })
}

// parse reads a file given as text, for the tests of the rules themselves.
func parse(t *testing.T, path, text string) source {
	t.Helper()
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, path, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	s := source{path: path, file: f, fset: fset}
	s.bubbles = slices.Contains(s.imports(), "testing/synctest")
	return s
}

// sources parses every Go file of this module whatever its build tags, leaving
// out nested modules, hidden folders and testdata.
func sources(t *testing.T) []source {
	t.Helper()
	var out []source
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if path == "." {
				return nil
			}
			if _, err := os.Stat(filepath.Join(path, "go.mod")); err == nil || d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		out = append(out, parse(t, filepath.ToSlash(path), string(text)))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	bubbling := map[string]bool{}
	for _, s := range out {
		bubbling[s.dir()] = bubbling[s.dir()] || s.bubbles
	}
	for i, s := range out {
		out[i].bubbles = bubbling[s.dir()]
	}
	return out
}

// checkDirection reports imports of a layer above the file's own. It holds for
// tests too: a test that needs the layer above tests the wrong package.
func checkDirection(s source) []string {
	var faults []string
	own := slices.IndexFunc(layers, func(l struct{ dir, why string }) bool { return under(s.path, l.dir) })
	if own < 0 {
		return nil
	}
	for _, p := range s.imports() {
		rel, ok := strings.CutPrefix(p, module+"/")
		if !ok {
			continue
		}
		for _, l := range layers[own+1:] {
			if under(rel, l.dir) {
				faults = append(faults, fmt.Sprintf("%s imports %s: %s", s.path, p, layers[own].why))
			}
		}
		if under(s.path, "mesh/ledger") && !s.test() && !underAny(rel, ledgerBelow) {
			faults = append(faults, fmt.Sprintf("%s imports %s: the ledger is a pure function of its entries, it may use only %s", s.path, p, strings.Join(ledgerBelow, " and ")))
		}
	}
	return faults
}

// checkPure reports what a file of a pure package must not have: impure
// imports, goroutines and channels. Tests may do as they like.
func checkPure(s source) []string {
	if s.test() || !underAny(s.path, pureDirs) {
		return nil
	}
	var faults []string
	for _, p := range s.imports() {
		for _, bad := range impureImports {
			if under(p, bad.path) {
				faults = append(faults, fmt.Sprintf("%s imports %q: %s", s.path, p, bad.why))
			}
		}
		first, _, _ := strings.Cut(p, "/")
		if !strings.Contains(first, ".") || under(p, module) {
			continue
		}
		allowed := false
		for _, a := range thirdParty {
			allowed = allowed || under(s.path, a.dir) && under(p, a.path)
		}
		if !allowed {
			faults = append(faults, fmt.Sprintf("%s imports %q: a pure package depends on few things, all named in house_test.go with the reason", s.path, p))
		}
	}
	ast.Inspect(s.file, func(n ast.Node) bool {
		what, why := "", "order of delivery must not be able to reach a result"
		switch n := n.(type) {
		case *ast.GoStmt:
			what, why = "a go statement", "whoever starts a goroutine must wait for it, and pure code has no lifetime"
		case *ast.ChanType:
			what = "a channel"
		case *ast.SendStmt:
			what = "a send"
		case *ast.SelectStmt:
			what, why = "a select", "which ready case is taken is random"
		case *ast.UnaryExpr:
			if n.Op == token.ARROW {
				what = "a receive"
			}
		}
		if what != "" {
			faults = append(faults, fmt.Sprintf("%s has %s: %s", s.line(n.Pos()), what, why))
		}
		return true
	})
	return faults
}

// checkSleep reports time.Sleep in the tests of a package that does not use
// synctest. Inside a bubble sleeping is free and exact; outside it is either too short on
// a busy machine or too long on every other.
func checkSleep(s source) []string {
	if !s.test() || s.bubbles {
		return nil
	}
	var faults []string
	ast.Inspect(s.file, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok || sel.Sel.Name != "Sleep" {
			return true
		}
		if x, ok := sel.X.(*ast.Ident); ok && x.Name == "time" {
			faults = append(faults, fmt.Sprintf("%s sleeps outside a synctest bubble: wait for the event itself", s.line(n.Pos())))
		}
		return true
	})
	return faults
}

// checkSize reports files too long to be about one thing.
func checkSize(s source) []string {
	limit := 800
	if s.path == "cmd/fedmesh/main.go" {
		limit = 60 // it starts the command and nothing else
	}
	if n := s.fset.File(s.file.FileStart).LineCount(); n > limit && !ast.IsGenerated(s.file) {
		return []string{fmt.Sprintf("%s has %d lines, at most %d: a file is about one thing", s.path, n, limit)}
	}
	return nil
}

// checkInit reports init functions: what runs before main cannot be
// configured, ordered or tested. Generated code knows no other way.
func checkInit(s source) []string {
	if ast.IsGenerated(s.file) {
		return nil
	}
	var faults []string
	for _, d := range s.file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
			faults = append(faults, fmt.Sprintf("%s has an init function: do it where main can see it", s.line(f.Pos())))
		}
	}
	return faults
}

var rules = map[string]func(source) []string{
	"direction": checkDirection,
	"pure":      checkPure,
	"sleep":     checkSleep,
	"size":      checkSize,
	"init":      checkInit,
}

func TestHouse(t *testing.T) {
	files := sources(t)
	if len(files) < 2 {
		t.Fatalf("found only %d Go files: the walk is broken", len(files))
	}
	for name, check := range rules {
		t.Run(name, func(t *testing.T) {
			for _, s := range files {
				for _, fault := range check(s) {
					t.Error(fault)
				}
			}
		})
	}
}

// TestPackagesAreDocumented asks each package for a doc.go, where a reader looks
// first.
func TestPackagesAreDocumented(t *testing.T) {
	dirs := map[string]bool{}
	for _, s := range sources(t) {
		if !s.test() {
			dirs[s.dir()] = true
		}
	}
	for dir := range dirs {
		text, err := os.ReadFile(filepath.Join(dir, "doc.go"))
		if err != nil || !bytes.Contains(text, []byte("\npackage ")) && !bytes.HasPrefix(text, []byte("package ")) {
			t.Errorf("%s has no doc.go: say there what the package is for and how it is used", dir)
		}
	}
}

// TestRulesCanFail shows each rule a file that breaks it, and one that does not.
func TestRulesCanFail(t *testing.T) {
	long := "package x\n" + strings.Repeat("\n", 800)
	for _, c := range []struct {
		rule, path, text string
		faults           int
	}{
		{"direction", "model/x.go", `package x; import _ "` + module + `/aggregate"`, 1},
		{"direction", "model/npz/x_test.go", `package x; import _ "` + module + `/mesh/store"`, 1},
		{"direction", "aggregate/x.go", `package x; import _ "` + module + `/mesh"`, 1},
		{"direction", "aggregate/x.go", `package x; import _ "` + module + `/model"`, 0},
		{"direction", "mesh/x.go", `package x; import _ "` + module + `/cmd/fedmesh"`, 1},
		{"direction", "mesh/ledger/x.go", `package x; import _ "` + module + `/mesh/store"`, 1},
		{"direction", "mesh/ledger/x.go", `package x; import _ "` + module + `/model"`, 0},
		{"direction", "cmd/fedmesh/x.go", `package x; import _ "` + module + `/mesh"`, 0},
		{"pure", "model/x.go", `package x; import _ "os"`, 1},
		{"pure", "model/x.go", `package x; import _ "os/exec"`, 1},
		{"pure", "model/x_test.go", `package x; import _ "os"`, 0},
		{"pure", "aggregate/x.go", `package x; import (_ "net/http"; _ "sync/atomic"; _ "math/rand/v2"; _ "log/slog")`, 4},
		{"pure", "mesh/ledger/x.go", `package x; import _ "time"`, 1},
		{"pure", "mesh/ledger/x.go", `package x; import _ "github.com/rs/zerolog"`, 1},
		{"pure", "mesh/ledger/x.go", `package x; import _ "github.com/zeebo/blake3"`, 0},
		{"pure", "aggregate/x.go", `package x; func f() { go f() }`, 1},
		{"pure", "aggregate/x.go", `package x; func f(c chan int) { c <- <-c; select {} }`, 4},
		{"pure", "mesh/store/x.go", `package x; import _ "os"; func f() { go f() }`, 0},
		{"sleep", "mesh/x_test.go", `package x; import "time"; func f() { time.Sleep(1) }`, 1},
		{"sleep", "mesh/x_test.go", `package x; import ("time"; _ "testing/synctest"); func f() { time.Sleep(1) }`, 0},
		{"sleep", "mesh/x.go", `package x; import "time"; func f() { time.Sleep(1) }`, 0},
		{"size", "mesh/x.go", long, 1},
		{"size", "mesh/x.go", "// Code generated by hand. DO NOT EDIT.\n" + long, 0},
		{"size", "cmd/fedmesh/main.go", "package x\n" + strings.Repeat("\n", 60), 1},
		{"init", "mesh/x.go", `package x; func init() {}`, 1},
		{"init", "mesh/x.go", `package x; type t int; func (t) init() {}`, 0},
		{"init", "mesh/x.go", "// Code generated by hand. DO NOT EDIT.\n\npackage x; func init() {}", 0},
	} {
		if got := rules[c.rule](parse(t, c.path, c.text)); len(got) != c.faults {
			t.Errorf("%s on %s %q: %d faults, want %d: %q", c.rule, c.path, c.text[:min(80, len(c.text))], len(got), c.faults, got)
		}
	}
}
