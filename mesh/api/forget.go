package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Forgetting is the answer to a proposal to forget peers.
type Forgetting struct {
	Peers      []string `json:"peers"`       // names, in the order of Logs
	Logs       []string `json:"logs"`        // ids of their logs, hex, ascending
	Done       bool     `json:"done"`        // they are forgotten: nobody waits for them
	WaitingFor []string `json:"waiting_for"` // names of the peers that have not agreed yet, sorted
}

// MarshalJSON writes empty lists for nil ones.
func (f Forgetting) MarshalJSON() ([]byte, error) {
	type plain Forgetting
	f.Peers, f.Logs, f.WaitingFor = list(f.Peers), list(f.Logs), list(f.WaitingFor)
	return json.Marshal(plain(f))
}

const (
	maxForget     = 1000      // peers in one request
	maxForgetBody = 256 << 10 // bytes of it
)

// forgetRequest is the body of POST /v1/forget.
type forgetRequest struct {
	Peers []string `json:"peers"`
}

func (f *forgetRequest) validate() error {
	if len(f.Peers) == 0 || len(f.Peers) > maxForget {
		return InvalidRequest("peers", fmt.Errorf("%d peers to forget; name 1 to %d", len(f.Peers), maxForget))
	}
	for _, name := range f.Peers {
		if err := CheckName("peer", name); err != nil {
			return InvalidRequest("peers", err)
		}
	}
	return nil
}

func (s *Server) postForget(w *response, r *http.Request) error {
	if _, err := query(r); err != nil {
		return err
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxForgetBody+1))
	if err != nil {
		return InvalidRequest("body", err)
	}
	if len(body) > maxForgetBody {
		return TooLarge(maxForgetBody)
	}
	var req forgetRequest
	d := json.NewDecoder(strings.NewReader(string(body)))
	d.DisallowUnknownFields()
	if err := d.Decode(&req); err != nil {
		return InvalidRequest("body", fmt.Errorf("the body is not {\"peers\": [\"name\", …]}: %s", clip(strings.TrimPrefix(err.Error(), "json: "))))
	}
	if d.More() {
		return InvalidRequest("body", errors.New("something follows the JSON of the body"))
	}
	if err := req.validate(); err != nil {
		return err
	}
	f, err := s.backend.Forget(r.Context(), req.Peers)
	if err != nil {
		return err
	}
	status := http.StatusAccepted
	if f.Done {
		status = http.StatusOK
	}
	return writeJSON(w, status, f)
}

// Forget proposes, at the first peer that answers, to wait no longer for dead peers, given by name or by the beginning of their log's
// id. It returns at once; the proposal stands, and whoever asks again, or for Mesh, sees how far it got.
func (c *Client) Forget(ctx context.Context, peers []string) (Forgetting, error) {
	var f Forgetting
	req := forgetRequest{Peers: slices.Clone(peers)}
	if err := req.validate(); err != nil {
		return f, err
	}
	body, err := json.Marshal(req)
	if err != nil {
		return f, fmt.Errorf("api: %w", err)
	}
	err = c.try(ctx, "forget "+strings.Join(peers, ", "), c.opts.Passes, func(ctx context.Context, peer string) error {
		f = Forgetting{}
		_, err := c.ask(ctx, peer, call{
			method: http.MethodPost, path: "/v1/forget", header: http.Header{"Content-Type": {"application/json"}}, body: Bytes(body),
		}, &f)
		return err
	})
	return f, err
}

// AwaitForgotten asks for the mesh until it shows that the peers with these logs, of a Forget before, are forgotten, and calls
// progress, unless nil, whenever those change who have not agreed yet. It returns the last state it saw, and an error when the context
// ends before, or one of them is back.
func (c *Client) AwaitForgotten(ctx context.Context, f Forgetting, progress func(Forgetting)) (Forgetting, error) {
	const every = 200 * time.Millisecond
	for !f.Done {
		select {
		case <-ctx.Done():
			return f, ctx.Err()
		case <-time.After(every):
		}
		m, err := c.Mesh(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return f, ctx.Err()
			}
			return f, err
		}
		now := Forgetting{Peers: f.Peers, Logs: f.Logs, Done: true}
		unknown := false
		for _, log := range f.Logs {
			i := slices.IndexFunc(m.Peers, func(p PeerInfo) bool { return p.Log == log })
			switch {
			case i < 0, m.Peers[i].State == PeerDead, m.Peers[i].State == PeerSuspect: // the peer that answers has not heard of the proposal
				unknown, now.Done = true, false
			case m.Peers[i].State == PeerForgetting:
				now.Done = false
				now.WaitingFor = append(now.WaitingFor, m.Peers[i].WaitingFor...)
			case m.Peers[i].State == PeerAlive:
				return f, PeerLives(m.Peers[i].Name, "it has come back, and takes part again")
			}
		}
		if unknown {
			continue
		}
		slices.Sort(now.WaitingFor)
		now.WaitingFor = slices.Compact(now.WaitingFor)
		if progress != nil && !slices.Equal(now.WaitingFor, f.WaitingFor) {
			progress(now)
		}
		f = now
	}
	return f, nil
}

// UnknownPeer is answered with 404.
func UnknownPeer(peer, reason string) *Problem {
	return NewProblem(TypeUnknownPeer, http.StatusNotFound, "Unknown peer", fmt.Sprintf("peer %q: %s", clip(peer), reason)).With("peer", peer)
}

// AmbiguousPeer is a name that stands for several logs, whose ids are given, answered with 409.
func AmbiguousPeer(peer string, logs []string) *Problem {
	return NewProblem(TypeAmbiguousPeer, http.StatusConflict, "Ambiguous peer",
		fmt.Sprintf("%d logs are called %q, and it cannot be told which is meant; name them by their ids instead: %s", len(logs), clip(peer), strings.Join(logs, ", "))).
		With("peer", peer).With("logs", logs)
}

// PeerLives is a peer that is not to be forgotten, because it lives, answered with 409.
func PeerLives(peer, advice string) *Problem {
	return NewProblem(TypePeerAlive, http.StatusConflict, "Peer is alive", fmt.Sprintf("peer %q: %s", clip(peer), advice)).With("peer", peer)
}

// TooFewRemain is a forgetting that would leave no more than half of a round's members, answered with 409.
func TooFewRemain(session string, round uint64, remain, members int) *Problem {
	return NewProblem(TypeTooFewRemain, http.StatusConflict, "Too few remain",
		fmt.Sprintf("round %d of session %q would be decided by %d of %d members, and more than half must remain; bring one of the dead back", round, clip(session), remain, members)).
		With("session", session).With("round", round).With("remain", remain).With("members", members)
}

// SilentPeers is a forgetting that could not take effect, because others who must agree are dead too, answered with 409.
func SilentPeers(peers []string) *Problem {
	return NewProblem(TypeSilentPeers, http.StatusConflict, "Others are silent",
		strings.Join(peers, ", ")+" would have to agree and cannot be reached; wait until they are back, or name them as well: all who are dead for good are forgotten together").
		With("peers", peers)
}

// ForgettingInTheWay is a forgetting that must wait for another one, answered with 409.
func ForgettingInTheWay(other, waitingFor []string, reason string) *Problem {
	return NewProblem(TypeForgettingInWay, http.StatusConflict, "Another forgetting is in the way", reason).
		With("peers", other).With("waiting_for", waitingFor)
}
