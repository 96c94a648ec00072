package mesh

import (
	"github.com/fedmesh/fedmesh/aggregate"
	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/ledger"
	"github.com/fedmesh/fedmesh/model"
)

// epsilonDelta is the δ for which ε is reported.
const epsilonDelta = 1e-5

// checkOf returns what a peer shows of its secret, so that peers with different ones, whose noise would differ, do not go together. It is
// a digest, so a secret must be long enough not to be guessed: MinSecret.
func checkOf(secret []byte) (check secretCheck) {
	if len(secret) > 0 {
		d := model.Sum(append([]byte("fedmesh/secret-check\x00"), secret...))
		copy(check[:], d[:])
	}
	return check
}

// secretCheck is all zeros for no secret.
type secretCheck [8]byte

// privacyOf adds up what the published models of a session cost; nil where the strategy adds no noise. Versions that
// were served by a peer that died before it gave its word for them are known to nobody, and are not in it.
func privacyOf(s *ledger.Session) *api.Privacy {
	config := s.Config()
	strategy, err := aggregate.Lookup(config.Strategy, paramMap(config.Params))
	if err != nil {
		return nil
	}
	private, ok := strategy.(aggregate.Private)
	if !ok || private.NoiseMultiplier() == 0 {
		return nil
	}
	var a aggregate.Accountant
	out := &api.Privacy{NoiseMultiplier: private.NoiseMultiplier(), Delta: epsilonDelta}
	for _, v := range s.Publications() {
		a.Publish(out.NoiseMultiplier, int(min(v.Most, maxMost)))
		if v.Most > 0 {
			out.Published++
		}
	}
	out.Rho, out.Epsilon = a.Rho(), a.Epsilon(epsilonDelta)
	return out
}

// maxMost keeps a word of nonsense within an int.
const maxMost = 1 << 30
