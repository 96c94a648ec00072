package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/term"

	"github.com/fedmesh/fedmesh/mesh/api"
)

const (
	drawEvery    = 250 * time.Millisecond // how soon a resize and what is new shows
	pollFollowed = 5 * time.Second        // how often to ask while events tell what changes
	pollBlind    = 2 * time.Second        // and while they do not
	keptEvents   = 100
)

// What a terminal is told. The alternate screen leaves what was there before untouched.
const (
	enterScreen = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J"
	leaveScreen = "\x1b[?7h\x1b[?25h\x1b[?1049l"
	toTop       = "\x1b[H"
	clearLine   = "\x1b[K"
	clearRest   = "\x1b[J"
)

// A picture is what is known at one time.
type picture struct {
	status  status
	session *shown // of the one session that is watched
	at      time.Time
	err     error // why it is not newer
}

// draw keeps a terminal up to date until a key or the context ends it. The terminal is as before then.
func (w *watcher) draw(ctx context.Context, out *os.File) error {
	keys, restore, err := w.a.takeTerminal(out)
	if err != nil {
		return err
	}
	defer restore()
	ctx, cancel := context.WithCancel(ctx)
	var parts sync.WaitGroup
	defer parts.Wait()
	defer cancel()

	var followed atomic.Bool
	events := make(chan api.Event, keptEvents)
	changed := make(chan struct{}, 1)
	parts.Go(func() {
		_ = w.follow(ctx, func(e api.Event) error { // ends with ctx
			followed.Store(true)
			select {
			case events <- e:
			case <-ctx.Done():
			}
			select {
			case changed <- struct{}{}:
			default: // it is known already that there is something
			}
			return nil
		}, func(error) { followed.Store(false) })
	})
	pictures := make(chan picture)
	parts.Go(func() { w.take(ctx, changed, &followed, pictures) })

	var (
		last   picture
		recent []api.Event
		shown  []byte
	)
	tick := time.NewTicker(drawEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-keys:
			return nil
		case e := <-events:
			recent = append(recent, e)
			if len(recent) > keptEvents {
				recent = recent[1:]
			}
			continue // drawn with the next tick: there may be many
		case p := <-pictures:
			if p.err != nil {
				last.err = p.err
			} else {
				last = p
			}
		case <-tick.C:
		}
		cols, rows, err := term.GetSize(int(out.Fd()))
		if err != nil || cols < 1 || rows < 1 {
			cols, rows = width, 24
		}
		frame := paintFrame(w.frame(last, recent, cols, rows, time.Now()), w.a.colours())
		if bytes.Equal(frame, shown) {
			continue
		}
		if _, err := out.Write(frame); err != nil {
			return err
		}
		shown = frame
	}
}

// takeTerminal makes the terminal ours: keys is closed when one ends the watching, restore gives it back. Keys are read by a goroutine that
// ends with the input, or with the process: a read of a terminal cannot be called off.
func (a *app) takeTerminal(out *os.File) (keys <-chan struct{}, restore func(), err error) {
	enableSequences(out)
	pressed := make(chan struct{})
	back := func() {}
	if in, ok := a.in.(*os.File); ok && term.IsTerminal(int(in.Fd())) {
		was, err := term.MakeRaw(int(in.Fd()))
		if err != nil {
			return nil, nil, fmt.Errorf("setting up the terminal: %w", err)
		}
		back = func() { _ = term.Restore(int(in.Fd()), was) } // nothing can be done
		go func() {
			const ctrlC = 3
			b := make([]byte, 64)
			for {
				n, err := in.Read(b)
				if bytes.ContainsAny(b[:n], "qQ") || bytes.IndexByte(b[:n], ctrlC) >= 0 {
					close(pressed)
					return
				}
				if err != nil {
					return
				}
			}
		}()
	}
	if _, err := out.WriteString(enterScreen); err != nil {
		back()
		return nil, nil, err
	}
	return pressed, func() {
		_, _ = out.WriteString(leaveScreen) // nothing can be done
		back()
	}, nil
}

// take asks the mesh for a new picture when something has changed, and from time to time.
func (w *watcher) take(ctx context.Context, changed <-chan struct{}, followed *atomic.Bool, pictures chan<- picture) {
	for ctx.Err() == nil {
		p := picture{at: time.Now()}
		if w.session == "" {
			p.status, p.err = fetchStatus(ctx, w.c)
		} else {
			p.session, p.err = fetchSession(ctx, w.c, w.key, keptEvents)
		}
		select {
		case pictures <- p:
		case <-ctx.Done():
			return
		}
		pause(ctx, drawEvery) // a burst of events is one change
		every := pollBlind
		if followed.Load() {
			every = pollFollowed
		}
		t := time.NewTimer(every)
		select {
		case <-ctx.Done():
		case <-changed:
		case <-t.C:
		}
		t.Stop()
	}
}

// frame lays out what the terminal shows, at most rows lines of cols columns.
func (w *watcher) frame(p picture, recent []api.Event, cols, rows int, now time.Time) []line {
	var body []line
	switch {
	case p.session != nil:
		body = sessionFrame(*p.session, cols, rows, now)
	case !p.at.IsZero():
		body = showStatus(p.status, cols, now)
	default:
		body = []line{{"asking the mesh…", dim}}
	}
	foot := line{"q quits", dim}
	if !p.at.IsZero() {
		foot.text += ", as of " + p.at.Local().Format(time.TimeOnly)
	}
	if p.err != nil {
		foot = line{"cannot be refreshed, trying again: " + printable(strings.ReplaceAll(p.err.Error(), "\n", " ")), alarm}
	}
	room := rows - 1
	if len(body) > room {
		// What is wrong must not be what is cut.
		if i := slices.IndexFunc(body, func(l line) bool { return l.text == problemsTitle }); i > 0 {
			body = slices.Concat(body[:1], body[i:], body[1:i])
		}
		body = body[:max(room, 0)]
		if room > 0 {
			body[room-1] = line{"…", dim}
		}
	}
	// The events get what is left, the last at the bottom.
	if free := room - len(body) - 2; free > 0 && len(recent) > 0 {
		body = append(body, line{}, line{"EVENTS", dim})
		for _, e := range recent[max(0, len(recent)-free):] {
			style := plain
			if e.Type == api.EventWarning {
				style = alarm
			}
			body = append(body, line{e.Time.Local().Format(time.TimeOnly) + "  " + describe(e), style})
		}
	}
	for len(body) < room {
		body = append(body, line{})
	}
	body = append(body, foot)
	for i := range body {
		body[i].text = shorten(body[i].text, cols)
	}
	return body
}

// sessionFrame is a session at a glance and as many of its last rounds as fit half of the screen.
func sessionFrame(s shown, cols, rows int, now time.Time) []line {
	info := s.Session
	title := fmt.Sprintf("session %s: %s, round %d, model %s of round %d, %s", info.Name, info.State, info.Round, short(info.Model), info.ModelRound, info.Config.Strategy)
	out := []line{{title, bold}}
	row := sessionRow(info, s.Rounds, now)
	out = append(out, line{text: fmt.Sprintf("updates %s, open for %s, members %s", row[3], row[6], strings.Join(info.Members, " "))}, line{})
	rounds := s.Rounds
	if n := max(rows/2, 3); len(rounds) > n {
		rounds = rounds[len(rounds)-n:]
	}
	out = append(out, head(showRounds(rounds, cols))...)
	for _, r := range s.Rounds {
		if d := divergence(r); d != "" {
			out = append(out, line{fmt.Sprintf("! DIVERGENCE in round %d: %s", r.Round, d), alarm})
		}
	}
	return out
}

// paintFrame writes lines over those that are there, without a moment of emptiness.
func paintFrame(frame []line, colours bool) []byte {
	var b bytes.Buffer
	b.WriteString(toTop)
	for i, l := range frame {
		if i > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString(paint(l.text, l.style, colours) + clearLine)
	}
	b.WriteString(clearRest)
	return b.Bytes()
}
