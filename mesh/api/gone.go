package api

import (
	"fmt"
	"net/http"
)

// ModelGone is a model of a final round that no peer in reach keeps any more, answered with 410. Keep is of how many final rounds the peer that
// answers keeps models; 0: of all, but this one it never had.
func ModelGone(session string, ref ModelRef, round uint64, keep int) *Problem {
	kept := "it never had that"
	if keep > 0 {
		kept = fmt.Sprintf("kept: last %d of each session;", keep)
	}
	return NewProblem(TypeModelGone, http.StatusGone, "Model gone",
		fmt.Sprintf("%s round %d's of session %q is gone here, and no peer in reach has it; pull the newest model", kept, round, clip(session))).
		With("session", session).With("model", ref.String()).With("round", round).With("keep", keep)
}

// BaseGone is a base of a final round that no peer in reach keeps any more, answered with 410: what was trained from it cannot be counted.
func BaseGone(base string) *Problem {
	return NewProblem(TypeBaseGone, http.StatusGone, "Base gone",
		fmt.Sprintf("no peer in reach keeps the base %s any more; pull the newest model and train from it", clip(base))).With("base", base)
}
