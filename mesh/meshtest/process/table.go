package process

import (
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"

	"github.com/fedmesh/fedmesh/mesh/api"
)

// WriteTable prints the verdict for people: a line per peer, then the counts.
func (v Verdict) WriteTable(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "peer\trounds\tfinal\tlast model\tlacks")
	for _, p := range v.Peers {
		lacks := p.Lacks
		if lacks == "" {
			lacks = "-"
		}
		fmt.Fprintf(t, "%s\t%d\t%d\t%s\t%s\n", p.Peer, p.Rounds, p.Final, short(p.Model), lacks)
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("process: %w", err)
	}
	t = tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "\nacknowledged\t%d\n", v.Acknowledged)
	fmt.Fprintf(t, "counted\t%d\n", v.Counted)
	if v.Extra > 0 {
		fmt.Fprintf(t, "counted without receipt\t%d\n", v.Extra)
	}
	fmt.Fprintf(t, "lost\t%d\n", len(v.Lost))
	fmt.Fprintf(t, "doubled\t%d\n", len(v.Doubled))
	if len(v.Altered) > 0 {
		fmt.Fprintf(t, "altered\t%d\n", len(v.Altered))
	}
	fmt.Fprintf(t, "divergent rounds\t%d\n", len(v.Divergent))
	agreed := "no"
	if v.Agreed {
		agreed = "yes"
	}
	fmt.Fprintf(t, "all peers agree\t%s\n", agreed)
	if err := t.Flush(); err != nil {
		return fmt.Errorf("process: %w", err)
	}
	return nil
}

// WriteRounds prints a line per final round: its number of updates and the
// digest of its model according to each peer.
func (v Verdict) WriteRounds(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(t, "final round\tupdates")
	for _, view := range v.Views {
		fmt.Fprintf(t, "\t%s", view.Peer)
	}
	fmt.Fprintln(t)
	for i := range v.Rounds {
		updates, digests := "-", ""
		for _, view := range v.Views {
			digest := "-"
			if i < len(view.Rounds) && view.Rounds[i].State == api.RoundFinal {
				digest = short(view.Rounds[i].Model)
				updates = strconv.Itoa(len(view.Rounds[i].Updates))
			}
			digests += "\t" + digest
		}
		fmt.Fprintf(t, "%d\t%s%s\n", i+1, updates, digests)
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("process: %w", err)
	}
	return nil
}
