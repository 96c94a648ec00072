package main

import (
	"fmt"
	"io"
	"os"
	"sync"
)

// live writes lines, and on a terminal below them a status that each write
// replaces.
type live struct {
	combiners int
	terminal  bool

	mu     sync.Mutex
	w      io.Writer
	status string
}

func newLive(w io.Writer, combiners int) *live {
	l := &live{w: w, combiners: combiners}
	if f, ok := w.(*os.File); ok {
		info, err := f.Stat()
		l.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return l
}

// line writes a line that stays.
func (l *live) line(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.terminal {
		fmt.Fprintln(l.w, text)
		return
	}
	fmt.Fprintf(l.w, "\r\x1b[K%s\n%s", text, l.status)
}

// progress shows how far a round is.
func (l *live) progress(round, updates int) {
	l.set(fmt.Sprintf("round %3d  %d of %d updates", round, updates, l.combiners))
}

// set replaces the status; empty removes it.
func (l *live) set(status string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.status = status
	if l.terminal {
		fmt.Fprint(l.w, "\r\x1b[K"+status)
	}
}
