package main

import (
	"encoding/json"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

// width is what tables must fit: a terminal nobody has widened.
const width = 80

func jsonFlag(cmd *cobra.Command, p *bool) {
	cmd.Flags().BoolVar(p, "json", false, "print JSON instead of text")
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
	_, err := io.WriteString(a.out, text)
	return err
}

// A table lines up columns by the width of their longest cell.
type table struct{ rows [][]string }

func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

// render lays the table out within the given width, by shortening the widest column
// first. Zero means no limit.
func (t *table) render(limit int) string {
	var widths []int
	for _, r := range t.rows {
		for i, c := range r {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(c))
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
				line.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c)+2))
			}
		}
		b.WriteString(strings.TrimRight(line.String(), " "))
		b.WriteByte('\n')
	}
	return b.String()
}

// shorten cuts a cell to n characters, the last one a dot leader.
func shorten(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return string(r[:n-1]) + "…"
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
