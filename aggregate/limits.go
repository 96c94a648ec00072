package aggregate

import "fmt"

// Limits is what a strategy needs of a round. The ledger sees to it where it can; a round that is outside nevertheless
// keeps the previous model, see [PlanRound].
type Limits struct {
	// Combiners is the fewest different combiners a round must have updates from, at least 1. A session's minimum should be raised
	// to it when the session is created: then updates that are too few wait for more in place of being used up.
	Combiners int
	// Weight is the most that the weights of a round's updates may add up to: [MaxTotalWeight] or less.
	Weight int64
	// Secret says that rounds need the mesh's secret.
	Secret bool
}

// Session is what is known of a session when it is created.
type Session struct {
	MinCombiners    int  // a round has updates from at least so many; 0 and 1 are the same
	TargetCombiners int  // a round closes once it has updates from so many; 0: never for their number
	Secret          bool // the mesh has a secret
}

// Require returns why a strategy could never compute a round of the session, wrapping [ErrSession], or nil.
func Require(s Strategy, session Session) error {
	l, name := s.Limits(), s.Info().Name
	if t := session.TargetCombiners; t > 0 && max(t, session.MinCombiners) < l.Combiners {
		return fmt.Errorf("aggregate: %s with these parameters needs updates from %d combiners in a round, rounds that close at %d never have them: raise the target, or lower what it is to withstand: %w",
			name, l.Combiners, t, ErrSession)
	}
	if l.Secret && !session.Secret {
		return fmt.Errorf("aggregate: %s with noise: nobody but the peers may know the noise, give all of them the same secret: %w: %w", name, ErrSecret, ErrSession)
	}
	return nil
}
