package main

import (
	"fmt"
	"strings"

	"github.com/fedmesh/fedmesh/mesh/api"
)

// A problem is something in the mesh that somebody should look at.
type problem struct {
	Kind    string `json:"kind"`              // divergence, disagreement, lost, copies, clash, dead or forgetting
	Session string `json:"session,omitempty"` // its name
	Round   uint64 `json:"round,omitempty"`
	Peer    string `json:"peer,omitempty"`
	Detail  string `json:"detail"` // in words, with what to do
}

// findProblems looks through a status, the worst first.
func findProblems(s status) []problem {
	out := []problem{}
	alive := 0
	for _, p := range s.Mesh.Peers {
		if p.State == api.PeerAlive {
			alive++
		}
	}
	each := func(fn func(info api.SessionInfo, r api.RoundInfo)) {
		for _, info := range s.Sessions {
			for _, r := range s.Rounds[info.Key] {
				fn(info, r)
			}
		}
	}
	each(func(info api.SessionInfo, r api.RoundInfo) {
		if d := divergence(r); d != "" {
			out = append(out, problem{"divergence", info.Name, r.Round, "", fmt.Sprintf(
				"DIVERGENCE: session %s, round %d: the same inputs gave different models: %s. Keep the logs and compare the peers' machines and versions",
				info.Name, r.Round, d)})
		}
	})
	if len(out) == 0 && !s.Mesh.Agreed {
		out = append(out, problem{Kind: "disagreement", Detail: "the peers that live do not agree on all models; it should pass once they have heard of each other"})
	}
	each(func(info api.SessionInfo, r api.RoundInfo) {
		for _, l := range r.Lost {
			out = append(out, problem{"lost", info.Name, r.Round, "", fmt.Sprintf(
				"LOST: session %s, round %d: update %s of %s, which no peer in reach holds; it returns when a holder does", info.Name, r.Round, l.ID, l.Combiner)})
		}
	})
	each(func(info api.SessionInfo, r api.RoundInfo) {
		missing, want := 0, min(info.Config.Copies, alive)
		for _, u := range r.Updates {
			if len(u.Copies) < want && r.State != api.RoundFinal {
				missing++
			}
		}
		if missing > 0 {
			out = append(out, problem{"copies", info.Name, r.Round, "", fmt.Sprintf(
				"COPIES MISSING: session %s, round %d: %s held by fewer than %d peers; they copy what is missing by themselves", info.Name, r.Round, count(missing, "update"), want)})
		}
	})
	for _, info := range s.Sessions {
		if len(info.Clash) > 0 {
			out = append(out, problem{Kind: "clash", Session: info.Name, Detail: fmt.Sprintf(
				"CLASH: %s named %s opened apart; use the keys: %s", count(len(info.Clash)+1, "session"), info.Name, strings.Join(info.Clash, " "))})
		}
	}
	for _, p := range s.Mesh.Peers {
		switch p.State {
		case api.PeerDead:
			out = append(out, problem{Kind: "dead", Peer: p.Name, Detail: fmt.Sprintf(
				"DEAD: peer %s; rounds do not become final without it. Start it again, or if it will not return: fedmesh forget %s", p.Name, p.Name)})
		case api.PeerForgetting:
			who := ""
			if len(p.WaitingFor) > 0 {
				who = ", waiting for " + strings.Join(p.WaitingFor, ", ")
			}
			out = append(out, problem{Kind: "forgetting", Peer: p.Name, Detail: fmt.Sprintf("FORGETTING: peer %s%s", p.Name, who)})
		}
	}
	return out
}
