package gossip

import (
	"bytes"
	"time"

	"github.com/rs/zerolog"
)

// maxLine cuts memberlist's log lines: some quote what a stranger sent.
const maxLine = 1024

// quiet bounds how many lines of a level pass per second, so that a stranger or
// a broken network cannot fill the log.
func quiet(l zerolog.Logger) zerolog.Logger {
	burst := func() zerolog.Sampler { return &zerolog.BurstSampler{Burst: 50, Period: time.Second} }
	return l.Sample(zerolog.LevelSampler{
		DebugSampler: burst(), InfoSampler: burst(), WarnSampler: burst(), ErrorSampler: burst(),
	})
}

// lineWriter takes memberlist's log lines, "[LEVEL] memberlist: text".
type lineWriter struct{ log zerolog.Logger }

func (w lineWriter) Write(line []byte) (int, error) {
	n := len(line)
	level := zerolog.InfoLevel
	if end := bytes.IndexByte(line, ']'); end > 0 && line[0] == '[' {
		switch string(line[1:end]) {
		case "DEBUG":
			level = zerolog.DebugLevel
		case "WARN":
			level = zerolog.WarnLevel
		case "ERR", "ERROR":
			level = zerolog.ErrorLevel
		}
		line = line[end+1:]
	}
	line = bytes.TrimSpace(line)
	line = bytes.TrimPrefix(line, []byte("memberlist: "))
	w.log.WithLevel(level).Str("from", "memberlist").Msg(string(line[:min(len(line), maxLine)]))
	return n, nil
}
