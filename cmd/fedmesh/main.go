package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/term"
)

// version is set by the Makefile through -ldflags.
var version string

func main() {
	ctx, stop := interruptible()
	a := &app{
		in:       os.Stdin,
		out:      os.Stdout,
		err:      os.Stderr,
		terminal: term.IsTerminal(int(os.Stderr.Fd())),
		lookup:   os.LookupEnv,
	}
	code := a.run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// interruptible gives a context that the first SIGINT or SIGTERM ends. A second
// one ends the process at once, for the user who does not want to wait.
func interruptible() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		cancel()
		<-signals
		os.Exit(exitInterrupted)
	}()
	return ctx, cancel
}
