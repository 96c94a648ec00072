package api

// RouteList is every method and pattern the server answers, for the comparison with openapi.json.
func (s *Server) RouteList() [][2]string {
	var l [][2]string
	for _, r := range s.routes {
		l = append(l, [2]string{r.method, r.pattern})
	}
	return l
}

// Query, Accepted and ReadProblem are what strangers can reach most directly.
var (
	Query       = query
	PushParams  = pushRequest
	Accepted    = accepted
	ReadProblem = readProblem
	Etag        = etagDigest
)
