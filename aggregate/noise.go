package aggregate

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"

	"github.com/zeebo/blake3"

	"github.com/fedmesh/fedmesh/aggregate/internal/gauss"
)

// MinSecret is the fewest bytes of a mesh secret.
const MinSecret = 16

const (
	noiseChunk = 1024 // elements whose noise comes from one stream of random bytes
	// Noise has a standard deviation of 2^39 to 2^40 steps of the grid. So fine it is because clipped steps are rounded to it toward zero: the
	// elements of a step of a billion are a 2^15th of the clip norm, and noise may be 2^20 times that with a multiplier of 1000 and weights with ten
	// fractional bits.
	noiseBits = 40
	// noiseKey separates what is derived from the mesh's secret for noise from whatever else is.
	noiseKey = "github.com/fedmesh/fedmesh aggregate: noise of central differential privacy, version 1"
)

func noiseParams() []Param {
	return []Param{param("dp_noise_multiplier", "0", rule{max: 1000},
		"central differential privacy: standard deviation of the noise on the sum of the steps, in units of clip_norm, which must be set (Flower: noise_multiplier); weights do not count then; 0: none")}
}

// noise is the discrete Gaussian mechanism on the sum of the clipped steps: Kairouz, Liu and Steinke, "The distributed discrete Gaussian mechanism for
// federated learning with secure aggregation" (ICML 2021), here by the one who sums, with the clipping of McMahan et al. (ICLR 2018).
//
// Each step has L2 norm C at most and all count the same, whatever their number of examples, a stale one less; so the sum moves by no more than C when one
// step becomes zero. Neighbours are two rounds that are the same but for that: zero-out adjacency, which is adding and removing where the number of
// updates, and by staleness their weight, is public. Where one update is replaced by another the sum moves by 2·C, so a multiplier z protects
// as z/2 does here. A combiner with k updates in a round moves it by k·C: see [Accountant.Publish].
//
// The norm is taken for a little more than it is, so that no rounding error makes it less. The steps are rounded toward zero, which makes none longer, to multiples of a
// power of two, and the noise is a multiple of it, so no bit of the sum is without noise: what noise and sums of multiples are, as
// integers, is what the discrete Gaussian mechanism is proved for. All that is computed from the sum, such
// as the division, the previous model and an optimizer, is post-processing. Integer and bool tensors, for which there is no
// noise, keep their previous values.
//
// The noise of an element follows from the mesh's secret, the name of the round's inputs and the number of the element, through keyed BLAKE3, so every peer
// has the same, for any range, and two versions of a round do not share it. Whoever knows the secret can take it off.
type noise struct {
	multiplier float64 // 0: none
}

// Private is a [Strategy] that may be differentially private.
type Private interface {
	Strategy
	// NoiseMultiplier returns the standard deviation of the noise in units of what one update can change, 0 for none: what
	// [Accountant] asks for.
	NoiseMultiplier() float64
}

// deviation returns the standard deviation of the noise on a sum in which one update weighs unit at most.
func (n noise) deviation(clip float64, unit int64) float64 {
	return float64(float64(n.multiplier*clip) * float64(unit))
}

// grid returns the spacings of the noise.
func (n noise) grid(s *Spec, clip float64, unit int64) *grid {
	_, e := math.Frexp(n.deviation(clip, unit))
	g := &grid{exp: make([]int, len(s.numbers))}
	for i := range s.numbers {
		g.exp[i] = max(e-noiseBits, s.numbers[i].scale-63) // the least bit of sums
	}
	return g
}

// noisePlan is the noise of one round.
type noisePlan struct {
	spec     *Spec
	key      [32]byte
	inputs   [32]byte
	samplers []*gauss.Sampler // of each float tensor
	shifts   []uint           // of samples to the accumulators' least bit
}

func (n noise) plan(r Round, clip float64, unit int64) (*noisePlan, error) {
	if len(r.Secret) < MinSecret {
		return nil, fmt.Errorf("aggregate: noise needs a secret of %d bytes or more that all peers have, this one has %d bytes: %w", MinSecret, len(r.Secret), ErrSecret)
	}
	if r.Inputs.IsZero() {
		return nil, fmt.Errorf("aggregate: the name of the round's inputs is needed: %w", ErrSource)
	}
	p := &noisePlan{spec: r.Spec, inputs: r.Inputs}
	blake3.DeriveKey(noiseKey, r.Secret, p.key[:])
	g := n.grid(r.Spec, clip, unit)
	for i := range r.Spec.numbers {
		num := &r.Spec.numbers[i]
		if !num.dtype.Float() {
			p.samplers, p.shifts = append(p.samplers, nil), append(p.shifts, 0)
			continue
		}
		steps := math.Ldexp(n.deviation(clip, unit), -g.exp[i])
		p.samplers = append(p.samplers, gauss.New(max(uint64(math.Ceil(steps)), 1)))
		p.shifts = append(p.shifts, uint(g.exp[i]+63-num.scale))
	}
	return p, nil
}

// noiser draws the noise of a range, in order.
type noiser struct {
	*noisePlan
	stream *gauss.Stream
	next   int64 // the element that the stream is at
}

func (p *noisePlan) begin() *noiser {
	return &noiser{noisePlan: p, stream: gauss.NewStream(p.key), next: -1}
}

// add adds the noise of a span to its sums.
func (n *noiser) add(span Span, acc Acc) {
	g, shift := n.samplers[span.Tensor], n.shifts[span.Tensor]
	if g == nil {
		return
	}
	first := n.spec.first[span.Tensor] + span.First
	for i := range acc.lo {
		if e := first + int64(i); e != n.next || e%noiseChunk == 0 {
			n.seek(e)
		}
		x := g.Sample(n.stream)
		n.next++
		lo, hi := uint64(x), uint64(x>>63)
		if shift >= 64 {
			lo, hi = 0, lo<<(shift-64)
		} else {
			lo, hi = lo<<shift, hi<<shift|lo>>1>>(63-shift)
		}
		var c uint64
		acc.lo[i], c = bits.Add64(acc.lo[i], lo, 0)
		acc.hi[i], _ = bits.Add64(acc.hi[i], hi, c)
	}
}

// seek goes to an element: to the beginning of its chunk, and past those before it.
func (n *noiser) seek(e int64) {
	chunk := e / noiseChunk
	name := binary.LittleEndian.AppendUint64(n.inputs[:len(n.inputs):len(n.inputs)], uint64(chunk))
	n.stream.Reset(name)
	for span := range n.spec.Blocks(chunk*noiseChunk, e) {
		if g := n.samplers[span.Tensor]; g != nil {
			for range span.Count {
				g.Sample(n.stream)
			}
		}
	}
	n.next = e
}
