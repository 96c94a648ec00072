package api

import (
	"net"
	"net/http"
)

// keyRoutes are the operator's.
func (s *Server) keyRoutes() []route {
	return []route{
		{http.MethodGet, "/v1/keys", s.ready(s.getKeys)},
		{http.MethodPost, "/v1/keys", s.ready(s.postKeys)},
	}
}

func (s *Server) keeper() (KeyKeeper, error) {
	k, ok := s.backend.(KeyKeeper)
	if !ok {
		return nil, NotEncrypted()
	}
	return k, nil
}

func (s *Server) getKeys(w *response, r *http.Request) error {
	if _, err := query(r); err != nil {
		return err
	}
	k, err := s.keeper()
	if err != nil {
		return err
	}
	ring, err := k.Keys(r.Context())
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, ring)
}

func (s *Server) postKeys(w *response, r *http.Request) error {
	if _, err := query(r); err != nil {
		return err
	}
	k, err := s.keeper()
	if err != nil {
		return err
	}
	change, err := readKeyChange(r.Body)
	if err != nil {
		return err
	}
	if r.TLS == nil && change.Operation == KeyInstall && !sameMachine(r.RemoteAddr) {
		s.log.Warn().Str("remote", r.RemoteAddr).Msg("a key of the gossip came over the network and was not encrypted; whoever listened has it")
	}
	ring, err := k.ChangeKeys(r.Context(), change)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, ring)
}

func sameMachine(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	return err == nil && net.ParseIP(host).IsLoopback()
}
