package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// A ranError comes from a command that ran; all other errors are wrong usage.
type ranError struct{ error }

func (e *ranError) Unwrap() error { return e.error }

// A remoteError comes from asking a mesh. Unless a peer said what is wrong, no peer was reached.
type remoteError struct{ error }

func (e *remoteError) Unwrap() error { return e.error }

// A usageError is found by a command that ran, in what it was given.
type usageError struct{ error }

func (e *usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// A hintError carries the next step for the user.
type hintError struct {
	error
	next string
}

func (e *hintError) Unwrap() error { return e.error }

// hint adds the next step to an error. The step nearest to the fault wins.
func hint(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return &hintError{err, fmt.Sprintf(format, args...)}
}

// A quiet error decides the exit code and has been reported already.
type quietError int

func (e quietError) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// report writes an error and its next step to standard error and returns the exit code.
func (a *app) report(ctx context.Context, cmd *cobra.Command, err error) int {
	if err == nil {
		return exitOK
	}
	if quiet, ok := errors.AsType[quietError](err); ok {
		return int(quiet)
	}
	code := exitCode(err)
	if ctx.Err() != nil && code != exitUsage {
		fmt.Fprintln(a.err, "fedmesh: interrupted")
		return exitInterrupted
	}
	fmt.Fprintf(a.err, "fedmesh: %s\n", strings.ReplaceAll(err.Error(), "\n", "\n  "))
	if next := nextStep(cmd, err, code); next != "" {
		fmt.Fprintf(a.err, "  next: %s\n", next)
	}
	return code
}
