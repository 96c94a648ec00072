package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/fedmesh/fedmesh/benchmarks/command"
	"github.com/fedmesh/fedmesh/benchmarks/load"
	"github.com/fedmesh/fedmesh/mesh/api"
)

// vandalEvery is the time between two bad pushes.
const vandalEvery = 100 * time.Millisecond

// vandal pushes what must be refused, all the time, under the name of a combiner
// of its own.
type vandal struct {
	session *session

	mu      sync.Mutex
	refused map[string]int
	wrong   []string // answers that are no such refusal
	none    int      // tries without an answer, or with one that means later: a busy machine, or a connection that was closed on a body without end
}

func newVandal(s *session) *vandal { return &vandal{session: s, refused: map[string]int{}} }

// badPush is a way to be refused.
type badPush struct {
	kind   string
	body   api.Source
	status []int
}

// pushes are the ways.
func (v *vandal) pushes() []badPush {
	seed := v.session.load.Seed
	last := func(x float32) api.Source {
		b := bytes.Clone(seed)
		binary.LittleEndian.PutUint32(b[len(b)-4:], math.Float32bits(x))
		return api.Bytes(b)
	}
	other, err := load.New(context.Background(), load.Options{Params: v.session.load.Layout.Elements() + 1, Updates: 1, Seed: 1})
	ways := []badPush{
		{"a value that is NaN", last(float32(math.NaN())), []int{http.StatusUnprocessableEntity}},
		{"a value too large", last(1e30), []int{http.StatusUnprocessableEntity}},
		{"cut off", api.Bytes(seed[:len(seed)-1]), []int{http.StatusBadRequest, http.StatusUnprocessableEntity}},
		{"no model", api.Bytes(bytes.Repeat([]byte("no model "), 1000)), []int{http.StatusBadRequest}},
		{"a body too large", func() (io.ReadCloser, int64, error) {
			return io.NopCloser(zeros{}), 1 << 42, nil
		}, []int{http.StatusRequestEntityTooLarge}},
	}
	if err == nil {
		ways = append(ways, badPush{"a parameter too many", api.Bytes(other.Seed), []int{http.StatusUnprocessableEntity, http.StatusBadRequest}})
	}
	return ways
}

// run pushes until stop is closed.
func (v *vandal) run(ctx context.Context, stop <-chan struct{}) error {
	var clients []*api.Client
	for _, u := range v.session.sys.cluster.URLs() {
		// What must be refused must be refused by each; and in one piece, whatever its size.
		c, err := api.NewClient([]string{u}, api.ClientOptions{Passes: 1, ResumeFrom: 1 << 50})
		if err != nil {
			return err
		}
		defer c.Close()
		clients = append(clients, c)
	}
	ways := v.pushes()
	for n := 0; ctx.Err() == nil; n++ {
		select {
		case <-stop:
			return nil
		default:
		}
		w := ways[n%len(ways)]
		_, err := clients[n/len(ways)%len(clients)].Push(ctx, v.session.key, api.PushOptions{Combiner: "vandal", Weight: 1}, w.body)
		if ctx.Err() == nil {
			v.note(w, err)
		}
		command.Pause(ctx, vandalEvery)
	}
	return nil
}

// note counts an answer.
func (v *vandal) note(w badPush, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	var p *api.Problem
	isProblem := errors.As(err, &p)
	switch {
	case isProblem && slices.Contains(w.status, p.Status):
		v.refused[w.kind]++
		return
	case isProblem && later(p.Status), err != nil && !isProblem:
		v.none++
		return
	}
	const most = 20
	if len(v.wrong) < most {
		v.wrong = append(v.wrong, fmt.Sprintf("%s: %v", w.kind, err))
	}
}

// zeros has no end.
type zeros struct{}

// Read implements io.Reader.
func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
