// Package gauss draws exact samples of the discrete Gaussian distribution, from random bytes that a key and a name determine.
//
// The distribution gives an integer x a probability proportional to exp(-x²/2σ²), where σ, an integer too, is its standard deviation to within a
// millionth. The sampler is that of Canonne, Kamath and
// Steinke, "The discrete Gaussian for differential privacy" (NeurIPS 2020), algorithms 1 to 3, with integer arithmetic where a decision
// is close: no rounding shifts a probability, and the same bytes give the same samples on every machine.
//
//	s := gauss.New(sigma)
//	stream := gauss.NewStream(key)
//	stream.Reset(name)
//	x := s.Sample(stream)
//
// A [Sampler] is immutable and may be shared; a [Stream] may not.
package gauss
