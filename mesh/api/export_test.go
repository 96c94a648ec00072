package api

import (
	"fmt"
	"net/http"
)

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

// Address is what callers without a token are counted by.
var Address = address

// AccountsAfter counts the accounts of a server after requests from so many addresses.
func AccountsAfter(t interface{ Fatal(args ...any) }, addresses int) int {
	l := newLimits(Limits{Requests: 0.001})
	refused := 0
	for i := range addresses {
		r := &http.Request{RemoteAddr: fmt.Sprintf("10.%d.%d.%d:1", i>>16, i>>8&255, i&255)}
		if l.request(r, bearer{}) != nil {
			refused++
		}
	}
	if refused == 0 {
		t.Fatal("nobody was refused")
	}
	return len(l.accounts)
}

// HasRule reports whether somebody has thought of who may go to a route.
func HasRule(method, pattern string) bool {
	_, ok := ruleOf(method, pattern)
	return ok
}
