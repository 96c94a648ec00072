package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fedmesh/fedmesh/mesh/api"
)

// status is what `fedmesh status --json` prints.
type status struct {
	Mesh     api.MeshInfo      `json:"mesh"`
	Sessions []api.SessionInfo `json:"sessions"`
}

func newStatus(a *app) *cobra.Command {
	var (
		client clientFlags
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show peers, sessions, and whether all agree",
		Long: `Show the mesh as one peer sees it: the others and how far their logs are ahead of
what it holds, and for each session which peers have which model.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var s status
			err := client.call(cmd, func(ctx context.Context, c *api.Client) (err error) {
				if s.Mesh, err = c.Mesh(ctx); err != nil {
					return err
				}
				s.Sessions, err = c.Sessions(ctx)
				return err
			})
			if err != nil {
				return err
			}
			return a.result(asJSON, s, showStatus(s))
		},
	}
	client.register(cmd, 2)
	jsonFlag(cmd, &asJSON)
	return cmd
}

func showStatus(s status) string {
	alive := 0
	var peers table
	peers.row("PEER", "STATE", "LAG", "API")
	for _, p := range s.Mesh.Peers {
		if p.State == api.PeerAlive {
			alive++
		}
		name := p.Name
		if name == s.Mesh.Self {
			name += " *"
		}
		peers.row(name, stateOf(p), number(p.VectorLag), dash(p.API))
	}
	verdict := "agreed"
	if !s.Mesh.Agreed {
		verdict = "NOT AGREED"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "mesh %s as %s sees it: %d of %d peers alive, %s\n\n", s.Mesh.Mesh, s.Mesh.Self, alive, len(s.Mesh.Peers), verdict)
	b.WriteString(peers.render(width))
	if len(s.Sessions) == 0 {
		return b.String() + "\nno sessions\n"
	}
	var sessions table
	sessions.row("SESSION", "STATE", "OPEN", "ROUND", "MODEL", "AT")
	for _, info := range s.Sessions {
		name, state, open := info.Name, info.State, number(info.Round)
		if info.State == api.SessionClosed {
			open = "-"
		}
		for _, at := range whoHasWhat(info.Name, s.Mesh.Peers) {
			sessions.row(name, state, open, at.round, at.model, at.peers)
			name, state, open = "", "", ""
		}
	}
	b.WriteString("\n" + sessions.render(width))
	return b.String()
}

// stateOf is a peer's state, with those whom its forgetting waits for.
func stateOf(p api.PeerInfo) string {
	if p.State == api.PeerForgetting && len(p.WaitingFor) > 0 {
		return p.State + ": waiting for " + strings.Join(p.WaitingFor, ", ")
	}
	return p.State
}

// A standing is a model and the peers that have it as their newest.
type standing struct{ round, model, peers string }

// whoHasWhat groups the peers by their newest model of a session, the newest first. Many peers
// take several rows.
func whoHasWhat(session string, peers []api.PeerInfo) []standing {
	groups := map[api.RoundModel][]string{}
	var silent []string
	for _, p := range peers {
		m, ok := p.Rounds[session]
		switch {
		case ok:
			groups[m] = append(groups[m], p.Name)
		case p.State != api.PeerLeft && p.State != api.PeerForgotten:
			silent = append(silent, p.Name)
		}
	}
	var out []standing
	for _, m := range slices.SortedFunc(maps.Keys(groups), func(a, b api.RoundModel) int {
		return cmp.Or(cmp.Compare(b.Round, a.Round), cmp.Compare(a.Model, b.Model))
	}) {
		out = appendStanding(out, number(m.Round), short(m.Model), groups[m])
	}
	if len(silent) > 0 || len(out) == 0 {
		out = appendStanding(out, "-", "-", silent)
	}
	return out
}

// appendStanding breaks a list of names into rows of at most 30 characters.
func appendStanding(out []standing, round, model string, names []string) []standing {
	line := ""
	for _, n := range names {
		if line != "" && len(line)+1+len(n) > 30 {
			out = append(out, standing{round, model, line})
			round, model, line = "", "", ""
		}
		line = strings.TrimPrefix(line+" "+n, " ")
	}
	return append(out, standing{round, model, dash(line)})
}
