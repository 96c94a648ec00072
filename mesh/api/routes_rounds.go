package api

import (
	"fmt"
	"math"
	"net/http"
)

// Rounds in one answer.
const (
	defaultRounds = 100
	maxRounds     = 1000
)

func (s *Server) roundRoutes() []route {
	return []route{
		{http.MethodGet, "/v1/sessions/{session}/rounds", s.ready(s.listRounds)},
		{http.MethodGet, "/v1/sessions/{session}/rounds/{round}", s.ready(s.getRound)},
	}
}

// roundList is the answer to GET rounds.
type roundList struct {
	Rounds []RoundInfo `json:"rounds"`
}

func (s *Server) listRounds(w *response, r *http.Request) error {
	session, err := pathName(r, "session")
	if err != nil {
		return err
	}
	q, err := query(r, "from", "limit", "updates")
	if err != nil {
		return err
	}
	from, err := parseUint("from", q.Get("from"), 0, math.MaxUint64)
	if err != nil {
		return err
	}
	limit, err := parseUint("limit", q.Get("limit"), defaultRounds, maxRounds)
	if err != nil {
		return err
	}
	var rounds []RoundInfo
	switch brief := q.Get("updates"); brief {
	case "", "true":
		rounds, err = s.backend.Rounds(session, from, int(limit))
	case "false":
		rounds, err = s.summaries(session, from, int(limit))
	default:
		err = InvalidRequest("updates", fmt.Errorf("updates is %+q, neither true nor false", clip(brief)))
	}
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, roundList{list(rounds)})
}

// summarizer is a backend that lists rounds without their updates for less than with them.
type summarizer interface {
	Summaries(session string, from uint64, limit int) ([]RoundInfo, error)
}

func (s *Server) summaries(session string, from uint64, limit int) ([]RoundInfo, error) {
	if b, ok := s.backend.(summarizer); ok {
		return b.Summaries(session, from, limit)
	}
	rounds, err := s.backend.Rounds(session, from, limit)
	for i := range rounds {
		rounds[i].Updates = nil
	}
	return rounds, err
}

func (s *Server) getRound(w *response, r *http.Request) error {
	session, err := plainSession(r)
	if err != nil {
		return err
	}
	n, err := parseUint("round", r.PathValue("round"), 0, math.MaxUint64)
	if err != nil {
		return err
	}
	info, err := s.backend.Round(session, n)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, info)
}
