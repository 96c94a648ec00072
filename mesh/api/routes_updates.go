package api

import "net/http"

func (s *Server) updateRoutes() []route {
	return []route{
		{http.MethodPut, "/v1/sessions/{session}/updates/{combiner}", s.ready(s.putUpdate)},
	}
}

func (s *Server) putUpdate(w *response, r *http.Request) error {
	req, err := pushRequest(r)
	if err != nil {
		return err
	}
	if err := s.checkBody(w, r); err != nil {
		return err
	}
	receipt, err := s.backend.Push(r.Context(), req)
	if err != nil {
		return err
	}
	status := http.StatusCreated
	if receipt.Duplicate {
		status = http.StatusOK
	}
	return writeJSON(w, status, receipt)
}

// pushRequest reads everything of a push but its body.
func pushRequest(r *http.Request) (PushRequest, error) {
	req := PushRequest{Body: r.Body, Length: r.ContentLength, Request: RequestOf(r.Context())}
	var err error
	if req.Session, err = pathName(r, "session"); err != nil {
		return req, err
	}
	if req.Combiner, err = pathName(r, "combiner"); err != nil {
		return req, err
	}
	q, err := query(r, "weight", "base", "id", metricPrefix)
	if err != nil {
		return req, err
	}
	if req.Weight, err = parseWeight(q.Get("weight")); err != nil {
		return req, err
	}
	if req.Base, err = parseBase(q.Get("base")); err != nil {
		return req, err
	}
	if q.Has("id") {
		req.ID = q.Get("id")
		if err := CheckID(req.ID); err != nil {
			return req, InvalidRequest("id", err)
		}
	}
	req.Metrics, err = parseMetrics(q)
	return req, err
}
