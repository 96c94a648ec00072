package main

import (
	"io"
	"time"

	"github.com/schollz/progressbar/v3"
)

// bar gives a progress bar on standard error, or nil when that is not a terminal. Total
// is in bytes, -1 when unknown.
func (a *app) bar(what string, total int64) *progressbar.ProgressBar {
	if !a.terminal {
		return nil
	}
	return progressbar.NewOptions64(total,
		progressbar.OptionSetWriter(a.err),
		progressbar.OptionSetDescription(what),
		progressbar.OptionShowBytes(true),
		progressbar.OptionSetWidth(20),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionClearOnFinish(),
		progressbar.OptionSetRenderBlankState(true),
		progressbar.OptionSetSpinnerChangeInterval(0), // no goroutine of its own
	)
}

// watched opens bodies whose reading a progress bar shows. Each attempt starts the bar anew.
func (a *app) watched(what string, open func() (io.ReadCloser, int64, error)) func() (io.ReadCloser, int64, error) {
	if !a.terminal {
		return open
	}
	return func() (io.ReadCloser, int64, error) {
		r, n, err := open()
		if err != nil {
			return nil, 0, err
		}
		bar := a.bar(what, n)
		w := watchedReader{io.TeeReader(r, bar), r, bar}
		if s, ok := r.(io.Seeker); ok {
			return &watchedSeeker{w, s}, n, nil
		}
		return &w, n, nil
	}
}

type watchedReader struct {
	io.Reader
	from io.Closer
	bar  *progressbar.ProgressBar
}

// watchedSeeker is one of a file: an upload that broke off goes on in the middle.
type watchedSeeker struct {
	watchedReader
	to io.Seeker
}

// Seek moves the bar, too.
func (w *watchedSeeker) Seek(offset int64, whence int) (int64, error) {
	n, err := w.to.Seek(offset, whence)
	if err == nil {
		w.bar.Set64(n) //nolint:errcheck // a bar that is wrong is ugly and nothing more
	}
	return n, err
}

// Close also takes the bar off the screen.
func (w *watchedReader) Close() error {
	w.bar.Clear() //nolint:errcheck // a bar that stays is ugly and nothing more
	return w.from.Close()
}
