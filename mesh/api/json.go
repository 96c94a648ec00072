package api

import "encoding/json"

// Lists and objects are never null on the wire, whatever a backend leaves nil: a client in another language ranges over
// them without asking.

// MarshalJSON writes an empty list for no members.
func (i SessionInfo) MarshalJSON() ([]byte, error) {
	type plain SessionInfo
	i.Members = list(i.Members)
	return json.Marshal(plain(i))
}

// MarshalJSON writes an empty list for no copies.
func (r Receipt) MarshalJSON() ([]byte, error) {
	type plain Receipt
	r.Copies = list(r.Copies)
	return json.Marshal(plain(r))
}

// MarshalJSON writes an empty list for no copies.
func (u UpdateInfo) MarshalJSON() ([]byte, error) {
	type plain UpdateInfo
	u.Copies = list(u.Copies)
	return json.Marshal(plain(u))
}

// MarshalJSON writes empty lists and objects for nil ones.
func (r RoundInfo) MarshalJSON() ([]byte, error) {
	type plain RoundInfo
	r.Updates = list(r.Updates)
	r.WaitingFor = list(r.WaitingFor)
	r.Lost = list(r.Lost)
	r.Sealed = list(r.Sealed)
	r.Took = list(r.Took)
	r.Metrics = object(r.Metrics)
	r.Computed = object(r.Computed)
	return json.Marshal(plain(r))
}

// MarshalJSON writes an empty list for no peers.
func (m MeshInfo) MarshalJSON() ([]byte, error) {
	type plain MeshInfo
	m.Peers = list(m.Peers)
	return json.Marshal(plain(m))
}

// MarshalJSON writes an empty object for no rounds.
func (p PeerInfo) MarshalJSON() ([]byte, error) {
	type plain PeerInfo
	p.Rounds = object(p.Rounds)
	return json.Marshal(plain(p))
}

func list[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

func object[V any](m map[string]V) map[string]V {
	if m == nil {
		return map[string]V{}
	}
	return m
}
