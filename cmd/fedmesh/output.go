package main

import (
	"encoding/json"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/rivo/uniseg"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// width is what tables must fit where there is no terminal to ask: one nobody has widened.
const width = 80

// screen is the terminal that results go to, or nil.
func (a *app) screen() *os.File {
	if f, ok := a.out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return f
	}
	return nil
}

// width is the number of columns for tables.
func (a *app) width() int {
	if f := a.screen(); f != nil {
		if w, _, err := term.GetSize(int(f.Fd())); err == nil && w > 0 {
			return w
		}
	}
	return width
}

// colours reports whether a terminal may be written to in colours: see no-color.org.
func (a *app) colours() bool {
	if v, _ := a.lookup("NO_COLOR"); v != "" {
		return false
	}
	kind, _ := a.lookup("TERM")
	return kind != "dumb"
}

// Styles of text on a terminal, as the numbers of ECMA-48.
const (
	plain = ""
	bold  = "1"
	dim   = "2"
	alarm = "1;31"
)

// paint styles text where colours are wanted.
func paint(text, style string, colours bool) string {
	if !colours || style == plain || text == "" {
		return text
	}
	return "\x1b[" + style + "m" + text + "\x1b[0m"
}

func jsonFlag(cmd *cobra.Command, p *bool) {
	cmd.Flags().BoolVar(p, "json", false, "print JSON instead of text")
}

func (a *app) quietFlag(cmd *cobra.Command) {
	cmd.Flags().BoolVarP(&a.quiet, "quiet", "q", false, "print errors only: no progress, no notes, and a result only with --json")
}

// printJSON writes v indented, with a line end.
func (a *app) printJSON(v any) error {
	e := json.NewEncoder(a.out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// result prints what a command found out, as JSON or as text.
func (a *app) result(asJSON bool, v any, text string) error {
	if asJSON {
		return a.printJSON(v)
	}
	if a.quiet {
		return nil
	}
	_, err := io.WriteString(a.out, text)
	return err
}

// A table lines up columns by the width of their longest cell.
type table struct{ rows [][]string }

// row adds a row. What peers and files name things must not steer the terminal.
func (t *table) row(cells ...string) {
	for i, c := range cells {
		cells[i] = printable(c)
	}
	t.rows = append(t.rows, cells)
}

// render lays the table out within the given width, by shortening the widest column
// first. Zero means no limit.
func (t *table) render(limit int) string {
	var widths []int
	for _, r := range t.rows {
		for i, c := range r {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], columns(c))
		}
	}
	for limit > 0 {
		total, widest := 2*(len(widths)-1), 0
		for i, w := range widths {
			total += w
			if w > widths[widest] {
				widest = i
			}
		}
		if total <= limit || widths[widest] <= 4 {
			break
		}
		widths[widest]--
	}
	var b strings.Builder
	for _, r := range t.rows {
		var line strings.Builder
		for i, c := range r {
			c = shorten(c, widths[i])
			line.WriteString(c)
			if i < len(r)-1 {
				line.WriteString(strings.Repeat(" ", widths[i]-columns(c)+2))
			}
		}
		b.WriteString(strings.TrimRight(line.String(), " "))
		b.WriteByte('\n')
	}
	return b.String()
}

// columns is the room that text takes on a terminal: wide letters take two, marks none.
func columns(s string) int { return uniseg.StringWidth(s) }

// shorten cuts text to n columns, the last one an ellipsis. It cuts between letters as people see them.
func shorten(s string, n int) string {
	if columns(s) <= n {
		return s
	}
	var b strings.Builder
	room := n - 1
	for g := uniseg.NewGraphemes(s); g.Next(); {
		if room -= g.Width(); room < 0 {
			break
		}
		b.WriteString(g.Str())
	}
	return b.String() + "…"
}

// short is the first 8 digits of a digest, a dash for none.
func short(digest string) string {
	if digest == "" {
		return "-"
	}
	return digest[:min(8, len(digest))]
}

// dash stands for an empty cell.
func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// size writes a number of bytes for people.
func size(n int64) string {
	const units = "KMGTPE"
	if n < 1000 {
		return strconv.FormatInt(n, 10) + " B"
	}
	v, u := float64(n)/1000, 0
	for v >= 999.95 && u < len(units)-1 {
		v, u = v/1000, u+1
	}
	return strconv.FormatFloat(v, 'f', 1, 64) + " " + units[u:u+1] + "B"
}

func number(n uint64) string { return strconv.FormatUint(n, 10) }

// sortedKeys gives a map's keys in order: nothing is printed in the order of a map.
func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
