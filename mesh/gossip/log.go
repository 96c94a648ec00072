package gossip

import (
	"bytes"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

const (
	// maxLine cuts memberlist's log lines: some quote what a stranger sent.
	maxLine = 1024
	// sayAgain is after how long a warning of memberlist's that repeats is written once more.
	sayAgain = time.Minute
	// maxSaid bounds the warnings that are remembered.
	maxSaid = 256
)

// quiet bounds how many lines of a level pass per second, so that a stranger or
// a broken network cannot fill the log.
func quiet(l zerolog.Logger) zerolog.Logger {
	burst := func() zerolog.Sampler { return &zerolog.BurstSampler{Burst: 50, Period: time.Second} }
	return l.Sample(zerolog.LevelSampler{
		DebugSampler: burst(), InfoSampler: burst(), WarnSampler: burst(), ErrorSampler: burst(),
	})
}

// lineWriter takes memberlist's log lines, "[LEVEL] memberlist: text".
//
// What it calls information is for who looks into gossip itself, so that is logged for debugging; who comes and goes the peer says. What it
// calls an error is nearly always another member that cannot be reached, so that is a warning, and one that repeats is
// left out for a while.
type lineWriter struct {
	log zerolog.Logger

	mu   sync.Mutex
	said map[string]time.Time // by what a line begins with
}

func newLineWriter(l zerolog.Logger) *lineWriter {
	return &lineWriter{log: l.With().Str("part", "memberlist").Logger(), said: map[string]time.Time{}}
}

// Write implements io.Writer for one line.
func (w *lineWriter) Write(line []byte) (int, error) {
	n := len(line)
	level, text := parseLine(line)
	if level == zerolog.WarnLevel && !w.due(text) {
		level = zerolog.DebugLevel
	}
	w.log.WithLevel(level).Msg(text)
	return n, nil
}

// parseLine returns the level that a line of memberlist's is logged at, and its text. A line without a level is a warning: nothing is known of it.
func parseLine(line []byte) (zerolog.Level, string) {
	level := zerolog.WarnLevel
	if end := bytes.IndexByte(line, ']'); end > 0 && line[0] == '[' {
		switch string(line[1:end]) {
		case "DEBUG", "INFO":
			level = zerolog.DebugLevel
		}
		line = line[end+1:]
	}
	line = bytes.TrimSpace(line)
	line = bytes.TrimPrefix(line, []byte("memberlist: "))
	return level, string(line[:min(len(line), maxLine)])
}

// due reports whether a warning is to be written: those that begin alike, up to their first colon, count as one.
func (w *lineWriter) due(text string) bool {
	name, _, _ := strings.Cut(text, ":")
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	if at, ok := w.said[name]; ok && now.Sub(at) < sayAgain {
		return false
	}
	if len(w.said) >= maxSaid {
		clear(w.said)
	}
	w.said[name] = now
	return true
}
