package ledger

import "math"

// CompactAll compacts every session as far as it goes, as somebody who has all models may.
func (l *Ledger) CompactAll() int {
	for key := range l.sessions {
		if s := l.Session(key); s != nil {
			if upto := s.compactable(math.MaxInt64, 0); upto > s.base {
				s.freeze(upto)
			}
		}
	}
	return l.drop()
}
