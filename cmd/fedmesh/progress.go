package main

import (
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"github.com/schollz/progressbar/v3"
)

// progress is what stands on the terminal's last line. Notes must not be written into a bar, and there is one bar at most.
type progress struct {
	mu  sync.Mutex
	bar *progressbar.ProgressBar // nil: none
}

// bar puts a progress bar on standard error, with rate and time left, in the place of one that is there; not where that is no terminal, or
// under --quiet. Total is in bytes, -1 when unknown.
func (a *app) bar(what string, total int64) {
	if !a.terminal || a.quiet {
		return
	}
	a.endBar()
	bar := progressbar.NewOptions64(total,
		progressbar.OptionSetWriter(a.err),
		progressbar.OptionSetDescription(what),
		progressbar.OptionShowBytes(true),
		progressbar.OptionShowCount(),
		progressbar.OptionSetWidth(20),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionClearOnFinish(),
		progressbar.OptionSetRenderBlankState(true),
		progressbar.OptionSetSpinnerChangeInterval(0), // no goroutine of its own
	)
	a.progress.mu.Lock()
	defer a.progress.mu.Unlock()
	a.progress.bar = bar
}

// advance moves the bar on. A bar that is wrong is ugly and nothing more, so its errors are nobody's.
func (a *app) advance(n int) {
	a.progress.mu.Lock()
	defer a.progress.mu.Unlock()
	if a.progress.bar != nil {
		_ = a.progress.bar.Add(n)
	}
}

// endBar takes the bar off the screen.
func (a *app) endBar() {
	a.progress.mu.Lock()
	defer a.progress.mu.Unlock()
	if a.progress.bar != nil {
		_ = a.progress.bar.Clear()
		a.progress.bar = nil
	}
}

// notes gives a logger for a client that shows on a terminal which peers failed and where an upload goes on; nil where nobody looks.
func (a *app) notes() *zerolog.Logger {
	if !a.terminal || a.quiet {
		return nil
	}
	log := zerolog.New(noteWriter{a})
	return &log
}

// requestLine is how net/http begins its errors; which peer it was has been said.
var requestLine = regexp.MustCompile(`^[A-Z][a-z]+ "[^"]*": `)

// noteWriter makes notes for people of a client's log lines.
type noteWriter struct{ a *app }

func (w noteWriter) Write(b []byte) (int, error) {
	var l struct {
		Peer    string `json:"peer"`
		Error   string `json:"error"`
		Message string `json:"message"`
		Offset  *int64 `json:"offset"`
		Again   int64  `json:"again"`
	}
	if err := json.Unmarshal(b, &l); err != nil {
		return len(b), nil //nolint:nilerr // no line of the client's
	}
	text := l.Message
	if l.Peer != "" {
		text = l.Peer + ": " + text
	}
	if l.Error != "" {
		text += ": " + requestLine.ReplaceAllString(l.Error, "")
	}
	if l.Offset != nil {
		text += fmt.Sprintf(" from %s, %s are sent again", size(*l.Offset), size(l.Again))
	}
	w.a.progress.mu.Lock()
	defer w.a.progress.mu.Unlock()
	if w.a.progress.bar != nil {
		_ = w.a.progress.bar.Clear()
	}
	fmt.Fprintln(w.a.err, "fedmesh:", printable(strings.ReplaceAll(text, "\n", " ")))
	return len(b), nil
}

// A meter shows how much of a file has come.
type meter struct {
	a     *app
	what  string
	begun bool
}

// expect is told how much will come in all, each time a transfer begins or goes on.
func (m *meter) expect(total int64) {
	if !m.begun {
		m.a.bar(m.what, total)
	}
	m.begun = true
}

// Write counts what came.
func (m *meter) Write(p []byte) (int, error) {
	m.a.advance(len(p))
	return len(p), nil
}

func (m *meter) end() { m.a.endBar() }

// watched opens bodies whose reading a progress bar shows. Each attempt has a bar of its own.
func (a *app) watched(what string, open func() (io.ReadCloser, int64, error)) func() (io.ReadCloser, int64, error) {
	if !a.terminal || a.quiet {
		return open
	}
	return func() (io.ReadCloser, int64, error) {
		r, n, err := open()
		if err != nil {
			return nil, 0, err
		}
		a.bar(what, n)
		w := watchedReader{r, a}
		if s, ok := r.(io.Seeker); ok {
			return &watchedSeeker{w, s, what, n}, n, nil
		}
		return &w, n, nil
	}
}

type watchedReader struct {
	io.ReadCloser
	a *app
}

// Read moves the bar, too.
func (w *watchedReader) Read(p []byte) (int, error) {
	n, err := w.ReadCloser.Read(p)
	w.a.advance(n)
	return n, err
}

// Close also takes the bar off the screen.
func (w *watchedReader) Close() error {
	w.a.endBar()
	return w.ReadCloser.Close()
}

// watchedSeeker is one of a file: an upload that broke off goes on in the middle.
type watchedSeeker struct {
	watchedReader
	to   io.Seeker
	what string
	size int64
}

// Seek has a new bar show what is left, so that its rate is not that of a leap.
func (w *watchedSeeker) Seek(offset int64, whence int) (int64, error) {
	n, err := w.to.Seek(offset, whence)
	if err == nil && n > 0 {
		w.a.bar(fmt.Sprintf("%s, on from %s", w.what, size(n)), w.size-n)
	}
	return n, err
}
