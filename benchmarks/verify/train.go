package verify

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"strconv"

	"github.com/fedmesh/fedmesh/benchmarks/load"
	"github.com/fedmesh/fedmesh/model"
)

// Name is the name of a combiner.
func Name(combiner int) string { return fmt.Sprintf("c%03d", combiner) }

// Index is the inverse of Name, for so many combiners.
func Index(name string, combiners int) (int, error) {
	digits := name[min(1, len(name)):]
	i, err := strconv.Atoi(digits)
	if err != nil || i < 0 || i >= combiners || Name(i) != name {
		return 0, fmt.Errorf("verify: no combiner is called %q", name)
	}
	return i, nil
}

// Weight is the weight of a combiner's updates.
func Weight(l *load.Load, combiner int) int64 { return l.Weights[combiner%len(l.Weights)] }

// Update is what a combiner makes of a model: a tenth of the way towards values of
// the combiner's own, which stand in another order for each step, so that no two
// updates are ever the same. It depends on nothing else. Its bytes are made when
// they are read, so that many large ones take no memory.
type Update struct {
	header, base, own []byte // the latter two without header
	at                int    // in own, of what the first parameter moves towards
}

// Train makes an update from the model that a combiner pulled, which must not
// change as long as the update is read. More combiners than the load has updates
// share their values, in other orders.
func Train(l *load.Load, base []byte, combiner, step int) (*Update, error) {
	header := l.Layout.Header()
	if len(base) != len(l.Seed) || !bytes.HasPrefix(base, header) {
		return nil, fmt.Errorf("verify: %d bytes were pulled that are no model of this session", len(base))
	}
	n := len(l.Updates)
	own := l.Updates[combiner%n][len(header):]
	at := (step*7919 + combiner/n*104_729) % (len(own) / 4)
	return &Update{header: header, base: base[len(header):], own: own, at: 4 * at}, nil
}

// Size is the number of its bytes.
func (u *Update) Size() int64 { return int64(len(u.header) + len(u.base)) }

// Body opens it, as api.Source wants it.
func (u *Update) Body() (io.ReadCloser, int64, error) {
	return io.NopCloser(io.NewSectionReader(u, 0, u.Size())), u.Size(), nil
}

// Append appends all of it to dst, which it returns.
func (u *Update) Append(dst []byte) []byte {
	dst = append(dst, u.header...)
	n := len(dst)
	dst = append(dst, u.base...)
	u.fill(dst[n:], 0)
	return dst
}

// Digest is that of its bytes.
func (u *Update) Digest() (model.Digest, error) {
	h := model.NewHash()
	if _, err := io.Copy(h, io.NewSectionReader(u, 0, u.Size())); err != nil {
		return model.Digest{}, fmt.Errorf("verify: %w", err)
	}
	return model.Digest(h.Sum(nil)), nil
}

// ReadAt implements io.ReaderAt.
func (u *Update) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 || off > u.Size() {
		return 0, fmt.Errorf("verify: offset %d of an update of %d bytes", off, u.Size())
	}
	if left := u.Size() - off; int64(len(p)) > left {
		p, err = p[:left], io.EOF
	}
	at := int(off)
	if at < len(u.header) {
		n = copy(p, u.header[at:])
	}
	at += n - len(u.header)
	for n < len(p) {
		if whole := (len(p) - n) &^ 3; at%4 == 0 && whole > 0 {
			u.fill(p[n:n+whole], at)
			n, at = n+whole, at+whole
			continue
		}
		var one [4]byte
		u.fill(one[:], at&^3)
		k := copy(p[n:], one[at&3:])
		n, at = n+k, at+k
	}
	return n, err
}

// fill computes the parameters from an offset on, whole ones.
func (u *Update) fill(dst []byte, from int) {
	at := (u.at + from) % len(u.own)
	for base := u.base[from:]; len(dst) > 0; dst, base = dst[4:], base[4:] {
		x, y := number(base), number(u.own[at:])
		binary.LittleEndian.PutUint32(dst, math.Float32bits(x+float32(0.1*(y-x))))
		if at += 4; at == len(u.own) {
			at = 0
		}
	}
}

func number(p []byte) float32 { return math.Float32frombits(binary.LittleEndian.Uint32(p)) }
