package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/fedmesh/fedmesh/mesh/api"
)

const (
	reconnectAfter = time.Second     // between two tries to follow the events
	askWithin      = 5 * time.Second // for what is shown beside an event
)

func newWatch(a *app) *cobra.Command {
	var (
		client clientFlags
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "watch [SESSION]",
		Short: "Watch the mesh or a session live",
		Long: `Watch what happens: on a terminal the status of the mesh, or the rounds of a
session, kept up to date, with the last events below; q or Ctrl-C ends it. When
the output is no terminal, or with --json, each event is a line.

Events come from one peer, the first that answers, and from another when that
stops; those of the time between are not told, and what one peer hears late it
tells late.`,
		Example: `  fedmesh watch
  fedmesh watch digits
  fedmesh watch digits --json | jq 'select(.type == "model")'`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return client.call(cmd, func(ctx context.Context, c *api.Client) error {
				w := &watcher{a: a, c: c}
				// What cannot be watched is told before anything is drawn.
				if len(args) > 0 {
					info, err := c.Session(ctx, args[0])
					if err != nil {
						return err
					}
					w.session, w.key = info.Name, info.Key
				} else if _, err := c.Mesh(ctx); err != nil {
					return err
				}
				if out := a.screen(); out != nil && !asJSON {
					return w.draw(ctx, out)
				}
				return w.print(ctx, asJSON)
			})
		},
	}
	client.register(cmd, 2)
	jsonFlag(cmd, &asJSON)
	return cmd
}

// A watcher follows a mesh, or one session of it.
type watcher struct {
	a            *app
	c            *api.Client
	session, key string // empty: all
}

// follow calls fn with the events that concern us until the context ends or fn fails, and returns that error. It goes on with another peer where a stream breaks; lost is called then.
func (w *watcher) follow(ctx context.Context, fn func(api.Event) error, lost func(error)) error {
	var failed error
	for {
		err := w.c.Events(ctx, func(e api.Event) error {
			if w.session != "" && e.Session != "" && e.Session != w.session {
				return nil
			}
			failed = fn(e)
			return failed
		})
		switch {
		case failed != nil:
			return failed
		case ctx.Err() != nil:
			return nil
		}
		lost(err)
		pause(ctx, reconnectAfter)
	}
}

// pause waits, unless the context ends first.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// print writes a line for each event. Whoever ends it does so in the ordinary way, so that is no error.
func (w *watcher) print(ctx context.Context, asJSON bool) error {
	told := false
	return w.follow(ctx, func(e api.Event) error {
		told = false
		if asJSON {
			b, err := json.Marshal(e)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(w.a.out, "%s\n", b)
			return err
		}
		text := describe(e)
		if e.Type == api.EventModel && e.Round > 0 {
			text += w.contents(ctx, e)
		}
		_, err := fmt.Fprintf(w.a.out, "%s  %s\n", e.Time.Local().Format(time.DateTime), text)
		return err
	}, func(err error) {
		if !told { // once, not every second
			fmt.Fprintf(w.a.err, "fedmesh: the events stopped, trying again: %s\n", printable(err.Error()))
			told = true
		}
	})
}

// contents tells what is in the round that made a model.
func (w *watcher) contents(ctx context.Context, e api.Event) string {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	r, err := w.c.Round(ctx, e.Session, e.Round)
	if err != nil {
		return "" // the event is worth its line without
	}
	text := ", " + count(len(r.Updates), "update")
	if m := showMetrics(r.Metrics); m != "" {
		text += ", " + printable(m)
	}
	return text
}

// describe tells an event in a line.
func describe(e api.Event) string {
	text := ""
	round := "round " + strconv.FormatUint(e.Round, 10)
	switch e.Type {
	case api.EventSession:
		text = e.Session + ": " + e.State
	case api.EventUpdate:
		text = e.Session + ": update " + e.ID + " of " + e.Combiner + " " + e.State
		if e.Round > 0 {
			text += " in " + round
		}
	case api.EventRound:
		text = e.Session + ": " + round + " " + e.State
		if e.Digest != "" {
			text += ", model " + short(e.Digest)
		}
	case api.EventModel:
		text = e.Session + ": model " + short(e.Digest) + " of " + round
	case api.EventPeer:
		text = e.Peer + ": " + e.State
	default:
		text = e.Session
		if e.Session != "" && e.Detail != "" {
			text += ": "
		}
	}
	if e.Peer != "" && e.Type != api.EventPeer {
		text += " by " + e.Peer
	}
	if e.Type != api.EventWarning && e.Detail != "" {
		text += ": "
	}
	return printable(fmt.Sprintf("%-7s  %s%s", e.Type, text, e.Detail))
}
