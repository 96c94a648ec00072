package main

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fedmesh/fedmesh/benchmarks/command"
)

// aims are the moments that are waited for; the others come by themselves.
var aims = []string{duringUpload, duringCopies, duringSeal, duringRepair, duringSnapshot, duringStart}

// aimEvery is how often is looked.
const aimEvery = 500 * time.Microsecond

// aim waits until a process that may be killed is at a moment, and returns it;
// nobody when none is until the next kill is due.
func (k *killer) aim(ctx context.Context, moment string) string {
	if k.system.peers == 1 || k.system.name != sysMesh && !slices.Contains([]string{duringUpload, duringCopies, duringStart}, moment) {
		return "" // its processes do not tell
	}
	ctx, cancel := context.WithTimeout(ctx, k.config.killEvery)
	defer cancel()
	for ; ctx.Err() == nil; command.Pause(ctx, aimEvery) {
		for _, p := range k.cluster.Running() {
			k.mu.Lock()
			_, starting := k.dead[p]
			last := 2*(len(k.dead)+1) >= k.system.peers
			k.mu.Unlock()
			if last && !starting {
				continue
			}
			if moment == duringStart && starting || moment != duringStart && !starting && k.moments.at(p, moment) {
				return p
			}
		}
	}
	return ""
}

// at reports whether a process is at a moment, as far as can be told while it
// lives.
func (m *moments) at(name, moment string) bool {
	if moment == duringSnapshot {
		found, err := filepath.Glob(filepath.Join(m.trial.cluster.DataDir(name), "log", ".tmp-*"))
		return err == nil && len(found) > 0
	}
	s := m.before(m.trial.peer(name))
	if s.life != nil {
		s.life.mu.Lock()
		defer s.life.mu.Unlock()
	}
	switch moment {
	case duringSeal:
		return s.life != nil && s.life.sealed > s.life.model
	case duringRepair:
		return s.life != nil && s.life.repaired > 0 && m.trial.now()-s.life.repaired < justNow/2
	}
	address := strings.TrimPrefix(s.peer.URL, "http://")
	for _, u := range s.stands {
		if moment == duringUpload && u.stage == stageSending && u.to == address || moment == duringCopies && u.stage == stageSent && u.to == address {
			return true
		}
	}
	return false
}
