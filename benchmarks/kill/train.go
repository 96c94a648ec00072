package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"strconv"

	"github.com/fedmesh/fedmesh/benchmarks/load"
)

// combinerName is the name of a combiner.
func combinerName(i int) string { return fmt.Sprintf("c%03d", i) }

// combinerIndex is the inverse of combinerName.
func combinerIndex(name string, combiners int) (int, error) {
	digits := name[min(1, len(name)):]
	i, err := strconv.Atoi(digits)
	if err != nil || i < 0 || i >= combiners || combinerName(i) != name {
		return 0, fmt.Errorf("kill: no combiner is called %q", name)
	}
	return i, nil
}

// train makes a combiner's update from the model it pulled: a tenth of the way
// towards values of the combiner's own, which stand in another order for each
// step, so that no two updates are ever the same. It depends on nothing else, so
// that an update can be made again when it is to be checked. The update is put in
// place of dst, which it returns.
func train(l *load.Load, dst, base []byte, combiner, step int) ([]byte, error) {
	header := l.Layout.Header()
	if len(base) != len(l.Seed) || !bytes.HasPrefix(base, header) {
		return nil, fmt.Errorf("kill: %d bytes were pulled that are no model of this session", len(base))
	}
	dst = append(dst[:0], header...)
	own := l.Updates[combiner][len(header):]
	at := 4 * (step * 7919 % (len(own) / 4))
	for p := base[len(header):]; len(p) > 0; p = p[4:] {
		x, y := number(p), number(own[at:])
		dst = binary.LittleEndian.AppendUint32(dst, math.Float32bits(x+float32(0.1*(y-x))))
		if at += 4; at == len(own) {
			at = 0
		}
	}
	return dst, nil
}

func number(p []byte) float32 { return math.Float32frombits(binary.LittleEndian.Uint32(p)) }
