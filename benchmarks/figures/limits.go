package figures

import (
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
)

// Limit is a promise and what was measured of it.
type Limit struct {
	What     string `json:"what"`
	Measured string `json:"measured"`
	Bound    string `json:"bound"`
	Kept     bool   `json:"kept"`
}

// Limits are those of a command.
type Limits []Limit

// Add adds one. What cannot be told is not kept.
func (l *Limits) Add(what, bound string, kept bool, format string, args ...any) {
	*l = append(*l, Limit{What: what, Measured: fmt.Sprintf(format, args...), Bound: bound, Kept: kept})
}

// Zero adds a limit on a number of things that must never be.
func (l *Limits) Zero(what string, n int) { l.Add(what, "0", n == 0, "%d", n) }

// Broken lists those that were not kept, after the command's name.
func (l Limits) Broken(command string) error {
	var errs []error
	for _, x := range l {
		if !x.Kept {
			errs = append(errs, fmt.Errorf("%s: %s: %s, want %s", command, x.What, x.Measured, x.Bound))
		}
	}
	return errors.Join(errs...)
}

// Write prints them for people.
func (l Limits) Write(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "limit\tmeasured\tbound\t")
	for _, x := range l {
		kept := "kept"
		if !x.Kept {
			kept = "NOT KEPT"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", x.What, x.Measured, x.Bound, kept)
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("figures: %w", err)
	}
	return nil
}
