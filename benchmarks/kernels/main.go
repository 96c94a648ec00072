package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/term"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := command(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func command(ctx context.Context, args []string, stdout io.Writer, stderr *os.File) error {
	fs := flag.NewFlagSet("kernels", flag.ContinueOnError)
	fs.SetOutput(stderr)
	repeats := fs.Int("repeat", 6, "repeats")
	benchtime := fs.String("benchtime", "300ms", "how long each benchmark runs, as go test has it")
	out := fs.String("out", "results", "folder for the table, the picture and the benchmarks' own output; not written when empty")
	asJSON := fs.Bool("json", false, "print everything measured as JSON instead of the table")
	check := fs.Bool("check", false, "fail when a figure is not reached")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() > 0 || *repeats < 1 || *repeats > 1000 {
		return errors.New("kernels: takes flags only, and 1 to 1000 repeats; see --help")
	}
	note := func(string) {}
	if term.IsTerminal(int(stderr.Fd())) {
		note = func(s string) { fmt.Fprintf(stderr, "\r\x1b[K%s", s) }
	}
	all, raw, err := measure(ctx, *repeats, *benchtime, note)
	note("")
	if err != nil {
		return err
	}
	var table strings.Builder
	missed := write(&table, all)
	for _, m := range missed {
		fmt.Fprintln(&table, "missed:", m)
	}
	fmt.Fprintf(&table, "\nmachine  %s, %s, %s/%s\n", cpuOf(raw), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	if *out != "" {
		if err := errors.Join(
			os.WriteFile(filepath.Join(*out, "kernels.txt"), []byte(table.String()), 0o600),
			os.WriteFile(filepath.Join(*out, "kernels-benchstat.txt"), []byte(raw), 0o600),
			savePicture(filepath.Join(*out, "kernels.svg"), all),
			savePicture(filepath.Join(*out, "kernels.png"), all),
		); err != nil {
			return fmt.Errorf("kernels: %w", err)
		}
	}
	if *asJSON {
		err = json.NewEncoder(stdout).Encode(all)
	} else {
		_, err = io.WriteString(stdout, table.String())
	}
	if err == nil && *check && len(missed) > 0 {
		err = fmt.Errorf("kernels: %d figures are not reached", len(missed))
	}
	return err
}

// cpuOf finds the processor in what the benchmarks print.
func cpuOf(raw string) string {
	for line := range strings.Lines(raw) {
		if cpu, ok := strings.CutPrefix(line, "cpu: "); ok {
			return strings.TrimSpace(cpu)
		}
	}
	return "unknown processor"
}
