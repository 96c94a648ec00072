package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fedmesh/fedmesh/mesh/api"
)

// Exit codes, as exitCodes describes them.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitRefused     = 4
	exitUnavailable = 5
	exitTimeout     = 6
	exitDenied      = 7
	exitInterrupted = 130
)

// exitCodes is the table for people; doc.go has it, too.
const exitCodes = `  0    done
  1    failed; for model diff: the models differ
  2    wrong usage: unknown command or flag, missing or invalid value, or
       node --check found a fault
  3    not found: no such session, round, model or file (any more), or
       nothing newer
  4    refused by the mesh: the request was understood and is not acceptable,
       as a model of another layout or an update that differs from one held
  5    unavailable: no peer could be reached, or none could do it now; try again
  6    timed out: --timeout or --wait passed before it was done
  7    denied: the token is missing, unknown or not good for this, or a
       certificate is not trusted
  130  interrupted, by Ctrl-C or SIGTERM`

// newExitCodes is a topic of the help, not a command.
func newExitCodes() *cobra.Command {
	return &cobra.Command{
		Use:   "exit-codes",
		Short: "What each exit code means",
		Long: `The exit code tells a script what became of a command:

` + exitCodes + `

5 and 6 are worth a retry as they are: a push counts once, however often it is
repeated with the same base and id. 2, 4 and 7 are not.

fedmesh node ends with 0 when a signal stopped it, or when it has left the mesh;
fedmesh watch with 0 when it was told to end.`,
	}
}

// newOutputTopic is a topic of the help, not a command.
func newOutputTopic() *cobra.Command {
	return &cobra.Command{
		Use:   "output",
		Short: "What is printed where, and what scripts may rely on",
		Long: `Standard output gets a command's result and nothing else. Errors, each with the
next step, notes and progress go to standard error, as text: --json does not
change that, and the exit code tells a script what went wrong (see fedmesh help
exit-codes). Progress and colours are for terminals only; NO_COLOR turns colours
off, --quiet turns off progress, notes and the result in words.

With --json the result is one JSON value. Names, types and meanings of its
fields stay; fields may be added, so ignore those you do not know. Lists and
objects are never null. Digests are 64 hex digits, times RFC 3339, durations
text as "30s", sizes bytes. The objects are those of the HTTP interface, which
the peers describe under /openapi.json:

  status            {mesh, sessions, rounds: {key: its last rounds}, problems}
  members           a list of peers
  session create    a session          session close    a session
  session list      a list of sessions
  session show      {session, rounds}
  session strategies  a list of {name, summary, paper, combiners, params}
  rounds            a list of rounds; with --round: one
  push              a receipt          pull             {session, round, digest,
                                                         format, bytes, file, peer}
  watch             an event a line
  forget            {id, peers, done, waiting_for}        leave            {left}
  model inspect     a list of {file, format, canonical, digest, elements, bytes,
                    tensors}
  model convert     {file, format, digest}                model diff       {a, b,
                                                         equal, tensors}
  node --check      {ok, settings, checked, warnings, faults}
  version           {version, revision, go, platform}`,
	}
}

// A timeoutError is what came of a command whose --timeout passed.
type timeoutError struct{ error }

func (e *timeoutError) Unwrap() error { return e.error }

func exitCode(err error) int {
	if _, ok := errors.AsType[*usageError](err); ok {
		return exitUsage
	}
	if _, ran := errors.AsType[*ranError](err); !ran {
		return exitUsage
	}
	if _, ok := errors.AsType[*timeoutError](err); ok {
		return exitTimeout
	}
	if p, ok := errors.AsType[*api.Problem](err); ok {
		return exitOf(p)
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
	if untrusted(err) {
		return exitDenied
	}
	return exitUnavailable
}

func exitOf(p *api.Problem) int {
	switch {
	case p.Status == http.StatusNotFound, api.TypeModelGone.Is(p):
		return exitNotFound
	case p.Status == http.StatusUnauthorized, p.Status == http.StatusForbidden:
		return exitDenied
	case p.Status == http.StatusTooManyRequests, p.Status == http.StatusRequestTimeout, p.Status == http.StatusInsufficientStorage,
		p.Status >= 502 && p.Status <= 504:
		return exitUnavailable
	case p.Status >= 400 && p.Status < 500:
		return exitRefused
	}
	return exitFailure
}

// untrusted reports whether one side did not accept the other's certificate.
func untrusted(err error) bool {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return true
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return true
	}
	// What the other side says of ours comes without a type of its own before TLS 1.3's first read.
	return err != nil && strings.Contains(err.Error(), "remote error: tls: ")
}

// ended reports whether the context's deadline was what ended a call.
func ended(ctx context.Context) bool { return errors.Is(ctx.Err(), context.DeadlineExceeded) }
