package main

import (
	"bytes"
	"io"
	"slices"
	"testing"
)

// Whoever only watches is not waited for: one who comes when all is over sees each round all the same.
func TestWatcherThatIsLate(t *testing.T) {
	dir := t.TempDir()
	c, err := parse([]string{"--kill", killNone, "--clients", "1", "--rounds", "3"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	c.Shape.Hidden = 8
	if c.Fedmesh, err = build(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	d := loadHead(t, c, 600)
	m, err := startMesh(t.Context(), c, dir, "late")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := m.close(); err != nil {
			t.Error(err)
		}
	}()
	var log bytes.Buffer
	live := newLive(&log, c.Combiners)
	result, err := m.try(t.Context(), c, c.trials()[0], d, "s", live)
	if err != nil {
		t.Fatalf("%v\n%s", err, log.String())
	}
	w, err := newWire(c.Shape)
	if err != nil {
		t.Fatal(err)
	}
	late := &watcher{config: c, session: "s", cluster: m.cluster, any: m.routes[0], each: m.each, test: d.test, wire: w, live: live, onRound: func(int) {}}
	rounds, err := late.run(t.Context())
	if err != nil || !slices.Equal(rounds, result.Rounds) {
		t.Errorf("%v, %+v, at the time %+v", err, rounds, result.Rounds)
	}
}
