package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/fedmesh/fedmesh/mesh/api"
)

const (
	problemsTitle = "PROBLEMS"
	statusRounds  = 5 // of each session's last rounds, which are looked at for problems
	statusAtATime = 4 // sessions asked for at once
)

// status is what `fedmesh status --json` prints.
type status struct {
	Mesh     api.MeshInfo               `json:"mesh"`
	Sessions []api.SessionInfo          `json:"sessions"`
	Rounds   map[string][]api.RoundInfo `json:"rounds"` // by session key: the last ones of those that are not closed
	Problems []problem                  `json:"problems"`
}

func newStatus(a *app) *cobra.Command {
	var (
		client clientFlags
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show peers, sessions, and whether all is well",
		Long: `Show the mesh as one peer sees it, at a glance: the others, how far their logs are
ahead of what it holds and whether they have its models; for each session how many
updates are in the open round and the model it has; and last what is wrong.

UPDATES is those in the open round and how many close it. AGE is that of the open
round, which began when the model was made.`,
		Example: `  fedmesh status
  fedmesh status --peers http://b:8080 --json | jq '.problems'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var s status
			err := client.call(cmd, func(ctx context.Context, c *api.Client) (err error) {
				s, err = fetchStatus(ctx, c)
				return err
			})
			if err != nil {
				return err
			}
			if asJSON {
				return a.printJSON(s)
			}
			colours := a.screen() != nil && a.colours()
			for _, l := range showStatus(s, a.width(), time.Now()) {
				if _, err := fmt.Fprintln(a.out, paint(l.text, l.style, colours)); err != nil {
					return err
				}
			}
			return nil
		},
	}
	client.register(cmd, 2)
	jsonFlag(cmd, &asJSON)
	return cmd
}

// fetchStatus asks for all that a status shows.
func fetchStatus(ctx context.Context, c *api.Client) (status, error) {
	s := status{Rounds: map[string][]api.RoundInfo{}}
	var err error
	if s.Mesh, err = c.Mesh(ctx); err != nil {
		return s, err
	}
	if s.Sessions, err = c.Sessions(ctx); err != nil {
		return s, err
	}
	if s.Sessions == nil {
		s.Sessions = []api.SessionInfo{}
	}
	rounds := make([][]api.RoundInfo, len(s.Sessions))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(statusAtATime)
	for i, info := range s.Sessions {
		if info.State == api.SessionClosed {
			continue
		}
		g.Go(func() (err error) {
			rounds[i], err = c.Rounds(ctx, info.Key, 0, statusRounds)
			if api.TypeUnknownSession.Is(err) {
				err = nil // answered by a peer that has not heard of it yet
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return s, err
	}
	for i, info := range s.Sessions {
		if rounds[i] != nil {
			s.Rounds[info.Key] = rounds[i]
		}
	}
	s.Problems = findProblems(s)
	return s, nil
}

// A line of text on a terminal.
type line struct{ text, style string }

func lines(text, style string) []line {
	var out []line
	for l := range strings.Lines(text) {
		out = append(out, line{strings.TrimRight(l, "\n"), style})
	}
	return out
}

// showStatus lays a status out within the width.
func showStatus(s status, limit int, now time.Time) []line {
	alive := 0
	var peers table
	peers.row("PEER", "STATE", "LAG", "API", "MODELS")
	for _, p := range s.Mesh.Peers {
		if p.State == api.PeerAlive {
			alive++
		}
		name := p.Name
		if name == s.Mesh.Self {
			name += " *"
		}
		peers.row(name, stateOf(p), number(p.VectorLag), dash(p.API), dash(modelsOf(p, s)))
	}
	verdict := "agreed"
	if !s.Mesh.Agreed {
		verdict = "NOT AGREED"
	}
	out := []line{{shorten(fmt.Sprintf("mesh %s as %s sees it: %d of %d peers alive, %s", s.Mesh.Mesh, s.Mesh.Self, alive, len(s.Mesh.Peers), verdict), limit), bold}, {}}
	out = append(out, head(peers.render(limit))...)
	out = append(out, line{})
	if len(s.Sessions) == 0 {
		out = append(out, line{text: "no sessions"})
	} else {
		var sessions table
		sessions.row("SESSION", "STATE", "ROUND", "UPDATES", "MODEL", "OF", "AGE")
		for _, info := range s.Sessions {
			sessions.row(sessionRow(info, s.Rounds[info.Key], now)...)
		}
		out = append(out, head(sessions.render(limit))...)
	}
	if len(s.Problems) == 0 {
		return out
	}
	out = append(out, line{}, line{problemsTitle, alarm})
	for _, p := range s.Problems {
		for _, l := range lines(wrapTo(p.Detail, "  ! ", "    ", limit), alarm) {
			out = append(out, line{shorten(l.text, limit), l.style})
		}
	}
	return out
}

// head makes a table's first line dim.
func head(text string) []line {
	out := lines(text, plain)
	if len(out) > 0 {
		out[0].style = dim
	}
	return out
}

func sessionRow(info api.SessionInfo, rounds []api.RoundInfo, now time.Time) []string {
	open, updates, age := number(info.Round), "-", "-"
	if info.State == api.SessionClosed {
		open = "-"
	}
	if i := slices.IndexFunc(rounds, func(r api.RoundInfo) bool { return r.State == api.RoundOpen }); i >= 0 {
		updates = strconv.Itoa(combiners(rounds[i]))
		if t := info.Config.TargetCombiners; t > 0 {
			updates += "/" + strconv.Itoa(t)
		}
		if at := openedAt(rounds[i]); !at.IsZero() {
			age = duration(now.Sub(at))
		}
	}
	return []string{info.Name, info.State, open, updates, short(info.Model), number(info.ModelRound), age}
}

// combiners counts those with an update in a round.
func combiners(r api.RoundInfo) int {
	seen := map[string]bool{}
	for _, u := range r.Updates {
		seen[u.Combiner] = true
	}
	return len(seen)
}

// duration writes a time span for people: its largest unit or two.
func duration(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm%ds", d/time.Minute, d%time.Minute/time.Second)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%dd%dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
}

// modelsOf tells whether a peer has, of each session, the model that the answering peer has; first where it has not.
func modelsOf(p api.PeerInfo, s status) string {
	var parts []string
	same, open := 0, 0
	for _, info := range s.Sessions {
		if info.State == api.SessionClosed {
			continue
		}
		open++
		m, ok := p.Rounds[info.Name]
		switch {
		case !ok && info.ModelRound == 0, ok && m.Round == info.ModelRound && m.Model == info.Model:
			same++
		case !ok:
			parts = append(parts, info.Name+" none")
		case differs(m, info, s.Rounds[info.Key]):
			parts = append(parts, fmt.Sprintf("%s %d %s DIFFERS", info.Name, m.Round, short(m.Model)))
		case m.Round > info.ModelRound:
			parts = append(parts, fmt.Sprintf("%s %d ahead", info.Name, m.Round))
		default:
			parts = append(parts, fmt.Sprintf("%s %d behind", info.Name, m.Round))
		}
	}
	switch {
	case open == 0 || p.State == api.PeerLeft || p.State == api.PeerForgotten:
		return ""
	case same == open && open == 1:
		return "agrees"
	case same == open:
		return fmt.Sprintf("all %d agree", open)
	case same > 0:
		parts = append(parts, fmt.Sprintf("%d agree", same))
	}
	return strings.Join(parts, ", ")
}

// differs reports whether a peer's model is another than the answering peer's of the same round.
func differs(m api.RoundModel, info api.SessionInfo, rounds []api.RoundInfo) bool {
	if m.Round == info.ModelRound {
		return m.Model != info.Model
	}
	i := slices.IndexFunc(rounds, func(r api.RoundInfo) bool { return r.Round == m.Round })
	return i >= 0 && rounds[i].Model != "" && rounds[i].Model != m.Model
}

// stateOf is a peer's state, with those whom its forgetting waits for.
func stateOf(p api.PeerInfo) string {
	if p.State == api.PeerForgetting && len(p.WaitingFor) > 0 {
		return p.State + ": waiting for " + strings.Join(p.WaitingFor, ", ")
	}
	return p.State
}

// openedAt is since when the answering peer has known a round as the open one; zero when it does not say.
func openedAt(r api.RoundInfo) time.Time {
	if r.Opened == nil {
		return time.Time{}
	}
	return *r.Opened
}
