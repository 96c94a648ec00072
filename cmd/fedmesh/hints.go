package main

import (
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/fedmesh/fedmesh/mesh/api"
)

// nextStep says what the user can do about an error.
func nextStep(cmd *cobra.Command, err error, code int) string {
	if h, ok := errors.AsType[*hintError](err); ok {
		return h.next
	}
	if p, ok := errors.AsType[*api.Problem](err); ok {
		if next := afterProblem(p); next != "" {
			return next
		}
	} else if _, remote := errors.AsType[*remoteError](err); remote {
		if next := afterNetwork(err); next != "" {
			return next
		}
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
	case exitTimeout:
		return "give it longer with --timeout, or name more peers with --peers (or FEDMESH_PEERS)"
	case exitUnavailable:
		return "check that a peer is up and that --peers (or FEDMESH_PEERS) names it, then run the command again"
	}
	return "run the command again; when it fails again, the peers' logs say more"
}

// afterProblem is the step after an answer of a peer; empty where there is none of its own.
func afterProblem(p *api.Problem) string {
	for _, s := range []struct {
		kind api.ProblemType
		next string
	}{
		{api.TypeModelGone, "pull the newest model, without --round and --digest, and train from it"},
		{api.TypeBaseGone, "pull the newest model, without --round and --digest, and train from it"},
		{api.TypeUnknownBase, "give --base the digest that pull printed for the model you trained from, or run the command again when more peers are up"},
		{api.TypeUnknownSession, "fedmesh session list shows what there is"},
		{api.TypeUnknownRound, "fedmesh rounds SESSION lists the rounds there are"},
		{api.TypeUnknownModel, "fedmesh rounds SESSION lists the rounds and their models"},
		{api.TypeWrongLayout, "compare with what the session takes: fedmesh pull SESSION --round 0 -o seed.npz, then fedmesh model diff seed.npz FILE"},
		{api.TypeUnreadableModel, "fedmesh model inspect FILE says what is wrong with it; write it with numpy's savez or safetensors' save_file"},
		{api.TypeInvalidValue, "mend the training: a model must not hold NaN, infinite or huge values"},
		{api.TypeSessionConflict, "choose another name, or look at what is open: fedmesh session show NAME"},
		{api.TypeSessionClosed, "open a new session with fedmesh session create; the closed one's models can still be pulled"},
		{api.TypeUpdateConflict, "give another update another --id, or pull the newest model and train from it"},
		{api.TypeTooLarge, "send a smaller model, or raise the limit at the peers"},
		{api.TypeUnauthorized, "give a valid token with --token-file FILE or in " + tokenVariable + "; who runs the mesh makes one with fedmesh token new"},
		{api.TypeForbidden, "use a token whose role allows it; who runs the mesh gives them out"},
		{api.TypeLastMember, "just stop the process, or let another peer join first"},
		{api.TypeNotReady, "wait a few seconds for the peer to catch up, or name another with --peers"},
		{api.TypeStorageFull, "raise --max-disk at the peers or free their disks; space also comes back as rounds become final"},
	} {
		if s.kind.Is(p) {
			return s.next
		}
	}
	switch {
	case p.Status == 401:
		return "give a token that the peers know"
	case p.Status == 403:
		return "use a token whose role allows it; who runs the mesh gives them out"
	case p.Status == 400 && strings.Contains(p.Detail, "HTTP request to an HTTPS server"):
		return "the peer speaks TLS: write https:// in --peers (or FEDMESH_PEERS)"
	case p.Status == 429:
		return "too many requests for this token or peer: wait a little, then run the command again"
	}
	return ""
}

// afterNetwork is the step after a connection failed.
func afterNetwork(err error) string {
	switch {
	case strings.Contains(err.Error(), "HTTP response to HTTPS client"):
		return "the peer speaks no TLS: write http:// in --peers (or FEDMESH_PEERS)"
	case untrusted(err):
		return "see that the peer's certificate names the host in --peers and comes from the authority that this command trusts, and that its own is one the peers trust"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nothing listens there: start a peer with fedmesh node, or name one that runs with --peers (or FEDMESH_PEERS)"
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return "the peer speaks no TLS: write http:// in --peers (or FEDMESH_PEERS)"
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return "no such host: correct the name in --peers (or FEDMESH_PEERS)"
	}
	return ""
}
