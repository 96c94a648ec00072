package access

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Role is what a token is for.
type Role string

// The roles.
const (
	Combiner Role = "combiner"
	Reader   Role = "reader"
	Operator Role = "operator"
	Peer     Role = "peer"
)

// Roles lists them, the least first.
func Roles() []Role { return []Role{Combiner, Reader, Operator, Peer} }

// Need is what a request asks for. The zero value is the operator's: what nobody has thought of is not open.
type Need uint8

// Needs.
const (
	ToOperate Need = iota // to change sessions or the mesh
	ToAnybody             // nothing that is secret
	ToRead                // the mesh, all sessions, events, metrics
	ToFollow              // one session: its state, rounds and models
	ToPush                // updates of one combiner to one session
	ToPeer                // the peer plane
)

// Roles lists those that may; none for ToAnybody, which needs no token.
func (n Need) Roles() []Role {
	switch n {
	case ToAnybody:
		return nil
	case ToRead:
		return []Role{Reader, Operator}
	case ToFollow:
		return []Role{Combiner, Reader, Operator}
	case ToPush:
		return []Role{Combiner, Operator}
	case ToPeer:
		return []Role{Peer}
	default:
		return []Role{Operator}
	}
}

// String says it in words.
func (n Need) String() string {
	switch n {
	case ToAnybody:
		return "coming here"
	case ToRead:
		return "reading this"
	case ToFollow:
		return "following a session"
	case ToPush:
		return "pushing updates"
	case ToPeer:
		return "speaking as a peer"
	default:
		return "changing this"
	}
}

// Grant is what a token allows.
type Grant struct {
	Name     string    // for the log
	Role     Role      // what it is for
	Combiner string    // the one combiner it pushes as; empty: any
	Sessions []string  // names or keys of those it is good for; none: all
	Expires  time.Time // from when it is refused; zero: never
}

// May reports whether the role is enough.
func (g Grant) May(n Need) bool { return n == ToAnybody || slices.Contains(n.Roles(), g.Role) }

// ForCombiner reports whether it is good for a combiner.
func (g Grant) ForCombiner(name string) bool { return g.Combiner == "" || g.Combiner == name }

// ForSession reports whether it is good for the session with these names and keys.
func (g Grant) ForSession(refs ...string) bool {
	return len(g.Sessions) == 0 || slices.ContainsFunc(refs, func(ref string) bool { return slices.Contains(g.Sessions, ref) })
}

// Bound reports whether it is good for some combiners or sessions only.
func (g Grant) Bound() bool { return g.Combiner != "" || len(g.Sessions) > 0 }

// expired reports whether it is refused at a time.
func (g Grant) expired(now time.Time) bool { return !g.Expires.IsZero() && !now.Before(g.Expires) }

const maxName = 128

// Validate lists all that is wrong with g, joined.
func (g Grant) Validate() error {
	var faults []error
	bad := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	name := func(what, s string) {
		if s == "" || len(s) > maxName || strings.Trim(s, nameCharacters) != "" || s[0] == '.' {
			bad("%s %+q is no name: 1 to %d of A-Z a-z 0-9 . _ -, not a dot first", what, clip(s), maxName)
		}
	}
	name("name", g.Name)
	if !slices.Contains(Roles(), g.Role) {
		bad("role %+q is none of combiner, reader, operator, peer", clip(string(g.Role)))
	}
	if g.Combiner != "" {
		name("combiner", g.Combiner)
	}
	for _, s := range g.Sessions {
		name("session", s)
	}
	if g.Bound() && g.Role != Combiner {
		bad("only a combiner's token is bound to a combiner or to sessions, and this is of role %+q", clip(string(g.Role)))
	}
	return errors.Join(faults...)
}

const nameCharacters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"

// clip bounds what of a stranger's text goes into a message.
func clip(s string) string {
	if len(s) > 64 {
		return s[:64] + "…"
	}
	return s
}
