package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fedmesh/fedmesh/mesh/api"
)

// Exit codes, as the root command's help lists them.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitRefused     = 4
	exitUnavailable = 5
	exitInterrupted = 130
)

const exitCodes = `Exit codes:
  0    done
  1    failed; for model diff: the models differ
  2    wrong usage: unknown command or flag, missing or invalid value
  3    not found: no such session, round, model or file (any more), or nothing newer
  4    refused by the mesh: the request was understood and is not acceptable
  5    unavailable: no peer answered in time, try again
  130  interrupted twice, or while a command was at work`

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

func exitCode(err error) int {
	if _, ok := errors.AsType[*usageError](err); ok {
		return exitUsage
	}
	if _, ran := errors.AsType[*ranError](err); !ran {
		return exitUsage
	}
	if p, ok := errors.AsType[*api.Problem](err); ok {
		switch {
		case p.Status == http.StatusNotFound, api.TypeModelGone.Is(p):
			return exitNotFound
		case p.Status == http.StatusTooManyRequests, p.Status >= 502 && p.Status <= 504:
			return exitUnavailable
		case p.Status >= 400 && p.Status < 500:
			return exitRefused
		}
		return exitFailure
	}
	if errors.Is(err, fs.ErrNotExist) {
		return exitNotFound
	}
	if _, remote := errors.AsType[*remoteError](err); !remote || errors.Is(err, api.ErrDigest) {
		return exitFailure
	}
	// Our own files may fail while a model goes through them.
	if _, local := errors.AsType[*fs.PathError](err); local {
		return exitFailure
	}
	return exitUnavailable
}

// nextStep says what the user can do about an error.
func nextStep(cmd *cobra.Command, err error, code int) string {
	if h, ok := errors.AsType[*hintError](err); ok {
		return h.next
	}
	if api.TypeModelGone.Is(err) || api.TypeBaseGone.Is(err) {
		return "pull the newest model, without --round and --digest, and train from it"
	}
	path := "fedmesh"
	if cmd != nil {
		path = cmd.CommandPath()
	}
	switch code {
	case exitUsage:
		return "see " + path + " --help"
	case exitNotFound:
		if p, ok := errors.AsType[*api.Problem](err); ok && p != nil {
			return "fedmesh session list shows what there is"
		}
		return "check the path"
	case exitRefused:
		return "correct what was sent; the same request will be refused again"
	case exitUnavailable:
		return "check that a peer is up and that --peers (or FEDMESH_PEERS) names it, then run the command again"
	}
	return "run the command again; when it fails again, the peers' logs say more"
}
