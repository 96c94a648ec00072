package mesh

const (
	largeBuffers = 8         // as many uploads at once run at full speed
	largeBuffer  = 128 << 10 // fits a core's second-level cache
	smallBuffer  = 32 << 10  // costs more system calls
)

// buffers keeps the large buffers that uploads are read through. There are few, so that memory does not grow with the number of
// combiners; who finds none makes do with a small one.
type buffers chan []byte

// lend returns a buffer that belongs to the caller until giveBack.
func (b buffers) lend() []byte {
	select {
	case buf := <-b:
		return buf
	default:
	}
	return make([]byte, smallBuffer)
}

func (b buffers) giveBack(buf []byte) {
	if len(buf) == largeBuffer {
		b <- buf
	}
}

func newBuffers() buffers {
	b := make(buffers, largeBuffers)
	for range largeBuffers {
		b <- make([]byte, largeBuffer)
	}
	return b
}
