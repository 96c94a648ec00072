package ledger

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/fedmesh/fedmesh/model"
)

// frameKind tells the frames of a snapshot apart; its numbers are part of the format and are never reused.
type frameKind uint64

const (
	frameLog     frameKind = 1 // a log
	frameSession frameKind = 2 // a session, and its base
	frameRound   frameKind = 3 // a compacted round of that session
	frameCounted frameKind = 4 // an update that this round counts
	frameResult  frameKind = 5 // what a version of it gave
	frameWaiting frameKind = 6 // an update that no round up to the base counts
	frameOther   frameKind = 7 // a content in conflict with a counted one
	frameEntry   frameKind = 8 // an entry
	frameEnd     frameKind = 9
)

// maxFrame bounds a frame: an entry in its wrapping.
const maxFrame = MaxEntry + 64

// ErrSnapshot is returned for bytes that are no snapshot.
var ErrSnapshot = errors.New("ledger: not a snapshot")

// Encode writes the snapshot.
func (n *Snapshot) Encode(w io.Writer) error {
	bw := bufio.NewWriterSize(w, 64<<10)
	err := n.frames(func(frame []byte) error {
		if len(frame) > maxFrame {
			return fmt.Errorf("ledger: frame of %d bytes in a snapshot, over the limit of %d", len(frame), maxFrame)
		}
		if _, err := bw.Write(binary.BigEndian.AppendUint32(nil, uint32(len(frame)))); err != nil {
			return err
		}
		_, err := bw.Write(frame)
		return err
	})
	if err != nil {
		return err
	}
	return bw.Flush()
}

// frames calls f with the frames of the snapshot, in order, until f fails.
func (n *Snapshot) frames(f func(frame []byte) error) error {
	var failed error
	count := uint64(0)
	emit := func(kind frameKind, fields int, encode func(e *encoder)) {
		if failed != nil {
			return
		}
		e := newEncoder()
		e.array(1 + fields)
		e.uint(uint64(kind))
		encode(e)
		count++
		failed = f(e.buf.Bytes())
	}
	for _, st := range n.logs {
		emit(frameLog, 5, func(e *encoder) { e.log(st.log); e.uint(st.count); e.uint(st.base); e.sum(st.last); e.flag(st.ended) })
	}
	for _, st := range n.sessions {
		emit(frameSession, 5, func(e *encoder) {
			e.sum(st.key)
			e.uint(uint64(len(st.rounds)))
			e.logs(st.base.members)
			e.vector(st.from)
			e.vector(st.base.cut)
		})
		for _, r := range st.rounds {
			emit(frameRound, 2, func(e *encoder) { e.sum(r.inputs); e.flag(r.closing) })
			for _, u := range r.content {
				emit(frameCounted, 1, u.encode)
			}
			for _, v := range r.versions {
				for _, res := range v.results {
					emit(frameResult, 4, func(e *encoder) { e.sum(v.inputs); e.uint(v.most); e.sum(res.Model); e.sum(res.State) })
				}
			}
		}
		for _, p := range st.base.waiting {
			emit(frameWaiting, 2, func(e *encoder) { p.update.encode(e); e.uint(p.lost) })
		}
		for _, u := range st.others {
			emit(frameOther, 1, u.encode)
		}
	}
	for _, entry := range n.entries {
		emit(frameEntry, 1, func(e *encoder) { e.fixed(entry.Raw) })
	}
	emit(frameEnd, 1, func(e *encoder) { e.uint(count) })
	return failed
}

func (e *encoder) flag(b bool) {
	if b {
		e.uint(1)
	} else {
		e.uint(0)
	}
}

func (d *decoder) flag() bool {
	n := d.uint()
	if n > 1 {
		d.fail(fmt.Errorf("flag of %d", n))
	}
	return n == 1
}

// raw reads the bytes of an entry.
func (d *decoder) raw() []byte {
	if d.err != nil {
		return nil
	}
	n, err := d.DecodeBytesLen()
	if err == nil && (n < 0 || n > d.r.Len()) {
		err = fmt.Errorf("%d bytes in %d", n, d.r.Len())
	}
	if err != nil {
		d.fail(err)
		return nil
	}
	b := make([]byte, n)
	d.fail(d.ReadFull(b))
	return b
}

// DecodeSnapshot reads a snapshot of at most limit bytes and refuses any encoding but the one that Encode makes of what it read.
func DecodeSnapshot(r io.Reader, limit int64) (*Snapshot, error) {
	br := bufio.NewReaderSize(io.LimitReader(r, limit), 64<<10)
	var sr snapshotReader
	var head [4]byte
	for !sr.done {
		frame, err := nextFrame(br, head[:])
		if err == nil {
			err = sr.frame(frame)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: frame %d: %w", ErrSnapshot, sr.count, err)
		}
	}
	if _, err := br.ReadByte(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: bytes behind its end", ErrSnapshot)
	}
	if err := sr.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSnapshot, err)
	}
	// Orders and choices that the fields alone do not show.
	same := sr.sum.Sum(nil)
	h := model.NewHash()
	if err := sr.snapshot.frames(func(frame []byte) error { _, err := h.Write(frame); return err }); err != nil || !bytes.Equal(same, h.Sum(nil)) {
		return nil, fmt.Errorf("%w: another encoding", ErrSnapshot)
	}
	return &sr.snapshot, nil
}

func nextFrame(r io.Reader, head []byte) ([]byte, error) {
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, io.ErrUnexpectedEOF
	}
	n := binary.BigEndian.Uint32(head)
	if n > maxFrame {
		return nil, fmt.Errorf("%d bytes, over the limit of %d", n, maxFrame)
	}
	frame := make([]byte, n)
	if _, err := io.ReadFull(r, frame); err != nil {
		return nil, io.ErrUnexpectedEOF
	}
	return frame, nil
}
