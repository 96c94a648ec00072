package mesh

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// TestSaid checks that a warning that repeats is due once a minute, with how many were left out, and that few are remembered.
func TestSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s said
		check := func(name string, skipped int, due bool) {
			t.Helper()
			if n, ok := s.again(name); n != skipped || ok != due {
				t.Errorf("%s: %d, %v; want %d, %v", name, n, ok, skipped, due)
			}
		}
		check("a", 0, true)
		check("a", 0, false)
		check("a", 0, false)
		check("b", 0, true)
		time.Sleep(sayAgain)
		check("a", 2, true)
		check("a", 0, false)
		s.over("a")
		check("a", 0, true)
		for i := range 10 * maxSaid {
			s.again(fmt.Sprint(i))
			if len(s.last) > maxSaid {
				t.Fatalf("%d are remembered", len(s.last))
			}
		}
	})
}
