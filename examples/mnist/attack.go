package main

import (
	"math"
	"math/rand/v2"
)

// The values of --attack.
const (
	attackNone     = "none"
	attackSignFlip = "sign-flip"
	attackScale    = "scale"
	attackRandom   = "random"
)

// attacks are the values of --attack that attack.
func attacks() []string { return []string{attackSignFlip, attackScale, attackRandom} }

// bound keeps what is pushed well inside of what a mesh takes.
const bound = 1 << 20

// attack spoils updates. With scale s, and d the step that an honest combiner
// would take from the model it got, it takes another one: sign-flip -s·d, scale
// s·d, and random one that is s times as long as d in a random direction.
type attack struct {
	kind  string
	scale float64
}

// spoil changes an update, trained from base, in place.
func (a attack) spoil(update, base []float32, r *rand.Rand) {
	factor, noise := a.scale, 0.0
	switch a.kind {
	case attackSignFlip:
		factor = -a.scale
	case attackRandom:
		var squares float64
		for i, x := range update {
			d := float64(x) - float64(base[i])
			squares += d * d
		}
		factor, noise = 0, a.scale*math.Sqrt(squares/float64(len(update)))
	}
	for i, x := range update {
		d := factor * (float64(x) - float64(base[i]))
		if noise > 0 {
			d = noise * r.NormFloat64()
		}
		update[i] = float32(max(-bound, min(float64(base[i])+d, bound)))
	}
}

// wild reports that training has run away, as it does from a model that an
// attack has ruined: no mesh takes such an update.
func wild(update []float32) bool {
	for _, x := range update {
		if !(x > -bound && x < bound) {
			return true
		}
	}
	return false
}
