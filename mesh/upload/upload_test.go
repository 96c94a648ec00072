package upload_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/upload"
)

// keeper is work that keeps what it reads.
type keeper struct {
	mu     sync.Mutex
	got    []byte
	ended  error // what Take returned
	begins error // what it is refused for at once
	refuse int   // bytes after which it is refused; 0: never
	unheld int   // tries of Finish that fail
	tries  int
}

var errRefused = api.InvalidValue("w", 3, "NaN", "")

func (k *keeper) Take(_ context.Context, body io.Reader) (err error) {
	defer func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.ended = err
	}()
	if k.begins != nil {
		return k.begins
	}
	buf := make([]byte, 7)
	for {
		n, err := body.Read(buf)
		k.mu.Lock()
		k.got = append(k.got, buf[:n]...)
		enough := k.refuse > 0 && len(k.got) >= k.refuse
		k.mu.Unlock()
		switch {
		case enough:
			return fmt.Errorf("checking: %w", errRefused)
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("reading: %w", err)
		}
	}
}

func (k *keeper) Finish(context.Context) (api.Receipt, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.tries++
	if k.tries <= k.unheld {
		return api.Receipt{}, api.Unavailable("no copies", time.Second)
	}
	return api.Receipt{ID: string(k.got), Copies: []string{"a"}}, nil
}

func (k *keeper) state() (got string, ended error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return string(k.got), k.ended
}

// bubble runs f with a set whose uploads go to the keeper it is given last.
func bubble(t *testing.T, o upload.Options, f func(t *testing.T, s *upload.Set, next func(*keeper))) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		k := &keeper{}
		s := upload.New(func(string, api.PushRequest) upload.Work { return k }, o)
		defer s.Close()
		f(t, s, func(n *keeper) { k = n })
	})
}

func create(t *testing.T, s *upload.Set, length int64) api.Upload {
	t.Helper()
	u, err := s.Create(t.Context(), api.PushRequest{Length: length}, "")
	if err != nil {
		t.Fatal(err)
	}
	if u.Offset != 0 || u.Length != length || upload.CheckName(u.Name) != nil {
		t.Fatalf("created %+v", u)
	}
	return u
}

// wire is a connection that brings what is written to it.
type wire struct {
	r    *io.PipeReader
	w    *io.PipeWriter
	done chan error // of Write
	at   api.Upload // known when done
}

// Interrupt implements api.UploadBody.
func (c *wire) Interrupt() { _ = c.r.CloseWithError(os.ErrDeadlineExceeded) }

func (c *wire) Read(p []byte) (int, error) { return c.r.Read(p) }

// connect has a wire bring an upload from an offset on.
func connect(t *testing.T, s *upload.Set, name string, offset, length int64) *wire {
	t.Helper()
	c := &wire{done: make(chan error, 1)}
	c.r, c.w = io.Pipe()
	go func() {
		var err error
		c.at, err = s.Write(t.Context(), name, offset, c, length)
		_ = c.r.CloseWithError(io.ErrClosedPipe)
		c.done <- err
	}()
	return c
}

// bring writes, and tells how the connection ended if it did.
func (c *wire) bring(text string) error {
	_, err := io.WriteString(c.w, text)
	return err
}

// end waits for the end of the connection, and tells how that was.
func (c *wire) end() error { return <-c.done }

// breakOff ends the connection before its time.
func (c *wire) breakOff() { _ = c.w.CloseWithError(io.ErrUnexpectedEOF) }

func TestGoesOnWhereItBrokeOff(t *testing.T) {
	bubble(t, upload.Options{}, func(t *testing.T, s *upload.Set, next func(*keeper)) {
		k := &keeper{}
		next(k)
		u := create(t, s, 20)
		c := connect(t, s, u.Name, 0, 20)
		_ = c.bring("0123456789abc")
		c.breakOff()
		if err := c.end(); err != nil || c.at.Offset != 13 || c.at.Whole() {
			t.Fatalf("%+v, %v", c.at, err)
		}
		if _, err := s.Receipt(t.Context(), u.Name); !api.TypeUploadIncomplete.Is(err) {
			t.Errorf("a receipt without all bytes: %v", err)
		}
		time.Sleep(9 * time.Minute)
		at, err := s.Upload(t.Context(), u.Name)
		if err != nil || at.Offset != 13 || time.Until(at.Expires) != time.Minute {
			t.Fatalf("%+v, %v", at, err)
		}
		c = connect(t, s, u.Name, 13, 7)
		_ = c.bring("defghij")
		if err := c.end(); err != nil || !c.at.Whole() {
			t.Fatalf("%+v, %v", c.at, err)
		}
		r, err := s.Receipt(t.Context(), u.Name)
		if got, ended := k.state(); err != nil || r.ID != "0123456789abcdefghij" || got != r.ID || ended != nil {
			t.Fatalf("%+v, %v", r, err)
		}
		// Remembered for a while, for those who did not hear it.
		if at, err := s.Upload(t.Context(), u.Name); err != nil || !at.Whole() {
			t.Errorf("%+v, %v", at, err)
		}
		if at, err := s.Write(t.Context(), u.Name, 20, &wire{}, 0); err != nil || !at.Whole() {
			t.Errorf("%+v, %v", at, err)
		}
		time.Sleep(11 * time.Minute)
		create(t, s, 1) // looks what is old
		if _, err := s.Receipt(t.Context(), u.Name); !api.TypeUnknownUpload.Is(err) {
			t.Errorf("remembered for ever: %v", err)
		}
	})
}

func TestRefusedBeforeTheFirstByte(t *testing.T) {
	bubble(t, upload.Options{}, func(t *testing.T, s *upload.Set, next func(*keeper)) {
		next(&keeper{begins: api.UnknownSession("s")})
		if _, err := s.Create(t.Context(), api.PushRequest{Length: 5}, ""); !api.TypeUnknownSession.Is(err) {
			t.Fatal(err)
		}
	})
}

func TestRefusedInTheMiddle(t *testing.T) {
	bubble(t, upload.Options{}, func(t *testing.T, s *upload.Set, next func(*keeper)) {
		next(&keeper{refuse: 14})
		u := create(t, s, 1<<40)
		c := connect(t, s, u.Name, 0, 1<<40)
		_ = c.bring(strings.Repeat("x", 14))
		if err := c.end(); !api.TypeInvalidValue.Is(err) {
			t.Fatal(err)
		}
		_, headErr := s.Upload(t.Context(), u.Name)
		_, getErr := s.Receipt(t.Context(), u.Name)
		_, writeErr := s.Write(t.Context(), u.Name, 14, &wire{}, 3)
		for _, err := range []error{headErr, getErr, writeErr} {
			if !api.TypeInvalidValue.Is(err) {
				t.Errorf("later: %v", err)
			}
		}
	})
}

func TestWrongOffsetsDisturbNobody(t *testing.T) {
	bubble(t, upload.Options{}, func(t *testing.T, s *upload.Set, _ func(*keeper)) {
		u := create(t, s, 20)
		c := connect(t, s, u.Name, 0, 20)
		_ = c.bring("0123456")
		synctest.Wait()
		for _, v := range []struct {
			offset, length int64
			kind           api.ProblemType
		}{
			{0, 20, api.TypeUploadConflict},
			{6, 14, api.TypeUploadConflict},
			{8, 12, api.TypeUploadConflict},
			{1 << 60, 1, api.TypeUploadConflict},
			{7, 14, api.TypeInvalidRequest},
			{7, 1 << 60, api.TypeInvalidRequest},
		} {
			_, err := s.Write(t.Context(), u.Name, v.offset, &wire{}, v.length)
			if !v.kind.Is(err) {
				t.Errorf("%+v: %v", v, err)
			}
		}
		_ = c.bring("789abcdefghij")
		if err := c.end(); err != nil || !c.at.Whole() {
			t.Errorf("%+v, %v", c.at, err)
		}
	})
}

func TestTakingOver(t *testing.T) {
	bubble(t, upload.Options{}, func(t *testing.T, s *upload.Set, _ func(*keeper)) {
		u := create(t, s, 20)
		half := connect(t, s, u.Name, 0, 20) // half open: its client is gone
		_ = half.bring("0123456")
		begin := time.Now()
		at, err := s.Upload(t.Context(), u.Name)
		if err != nil || at.Offset != 7 || time.Since(begin) > time.Second {
			t.Fatalf("after %v: %+v, %v", time.Since(begin), at, err)
		}
		if err := half.end(); !api.TypeUploadConflict.Is(err) {
			t.Errorf("who was cut off hears %v", err)
		}
		// Two that are both right: the later one has it.
		one := connect(t, s, u.Name, 7, 13)
		synctest.Wait()
		two := connect(t, s, u.Name, 7, 13)
		if err := one.end(); !api.TypeUploadConflict.Is(err) {
			t.Errorf("the first hears %v", err)
		}
		_ = two.bring("789abcdefghij")
		if err := two.end(); err != nil || !two.at.Whole() {
			t.Errorf("%+v, %v", two.at, err)
		}
	})
}

// What is on its way may arrive before a connection is cut off.
func TestSettling(t *testing.T) {
	bubble(t, upload.Options{}, func(t *testing.T, s *upload.Set, _ func(*keeper)) {
		u := create(t, s, 1000)
		c := connect(t, s, u.Name, 0, 1000)
		go func() {
			for range 10 {
				_ = c.bring("x")
				time.Sleep(20 * time.Millisecond)
			}
		}()
		time.Sleep(time.Millisecond)
		if at, err := s.Upload(t.Context(), u.Name); err != nil || at.Offset != 10 {
			t.Errorf("%+v, %v", at, err)
		}
		_ = c.end()
		// But not for ever.
		c = connect(t, s, u.Name, 10, 990)
		go func() {
			for c.bring("x") == nil {
				time.Sleep(20 * time.Millisecond)
			}
		}()
		synctest.Wait()
		begin := time.Now()
		at, err := s.Upload(t.Context(), u.Name)
		if took := time.Since(begin); err != nil || at.Offset < 40 || took > 2*time.Second {
			t.Errorf("after %v: %+v, %v", took, at, err)
		}
		_ = c.end()
		time.Sleep(time.Second) // for who brings it
	})
}

func TestExpiry(t *testing.T) {
	bubble(t, upload.Options{Age: time.Hour}, func(t *testing.T, s *upload.Set, next func(*keeper)) {
		gone := func(u api.Upload, k *keeper, after time.Duration) {
			t.Helper()
			time.Sleep(after - time.Second)
			if _, ended := k.state(); ended != nil {
				t.Errorf("ended before %v", after)
			}
			time.Sleep(2 * time.Second)
			if _, ended := k.state(); ended == nil {
				t.Errorf("not ended after %v", after)
			}
			if _, err := s.Upload(t.Context(), u.Name); !api.TypeUnknownUpload.Is(err) {
				t.Errorf("still known: %v", err)
			}
		}
		k := &keeper{}
		next(k)
		gone(create(t, s, 20), k, time.Minute)

		k = &keeper{}
		next(k)
		u := create(t, s, 20)
		c := connect(t, s, u.Name, 0, 20)
		_ = c.bring("0")
		c.breakOff()
		_ = c.end()
		for range 5 { // asking does not keep it
			time.Sleep(time.Minute)
			if _, err := s.Upload(t.Context(), u.Name); err != nil {
				t.Fatal(err)
			}
		}
		gone(u, k, 5*time.Minute)

		k = &keeper{}
		next(k)
		u = create(t, s, 1<<20)
		c = connect(t, s, u.Name, 0, 1<<20)
		begin := time.Now()
		for c.bring("x") == nil { // a trickle does not keep it for ever
			time.Sleep(30 * time.Second)
		}
		if err := c.end(); !api.TypeUnknownUpload.Is(err) || time.Since(begin) > time.Hour+time.Minute {
			t.Errorf("a trickle ended after %v with %v", time.Since(begin), err)
		}
	})
}

func TestMoreThanAnnounced(t *testing.T) {
	bubble(t, upload.Options{}, func(t *testing.T, s *upload.Set, next func(*keeper)) {
		k := &keeper{}
		next(k)
		u := create(t, s, 5)
		c := connect(t, s, u.Name, 0, -1)
		_ = c.bring("012345")
		if err := c.end(); !api.TypeInvalidRequest.Is(err) {
			t.Errorf("%+v, %v", c.at, err)
		}
		synctest.Wait()
		if _, ended := k.state(); ended == nil {
			t.Error("the work was not told")
		}
		// One of unknown length may break at the very end.
		next(&keeper{})
		u = create(t, s, 5)
		c = connect(t, s, u.Name, 0, -1)
		_ = c.bring("01234")
		c.breakOff()
		if err := c.end(); err != nil || !c.at.Whole() {
			t.Errorf("%+v, %v", c.at, err)
		}
	})
}

func TestMany(t *testing.T) {
	bubble(t, upload.Options{Most: 10}, func(t *testing.T, s *upload.Set, next func(*keeper)) {
		names := map[string]bool{}
		for i := range 1000 {
			next(&keeper{})
			u, err := s.Create(t.Context(), api.PushRequest{Length: 5}, "")
			if (err == nil) != (i < 10) || err != nil && !errors.Is(err, upload.ErrFull) {
				t.Fatalf("%d: %v", i, err)
			}
			names[u.Name] = true
		}
		if len(names) != 11 {
			t.Errorf("%d names", len(names))
		}
		for name := range names {
			_ = s.End(name)
		}
		create(t, s, 5)
	})
}

func TestEnd(t *testing.T) {
	bubble(t, upload.Options{}, func(t *testing.T, s *upload.Set, next func(*keeper)) {
		k := &keeper{}
		next(k)
		u := create(t, s, 20)
		c := connect(t, s, u.Name, 0, 20)
		_ = c.bring("0123456")
		if err := s.End(u.Name); err != nil {
			t.Fatal(err)
		}
		if err := c.end(); !api.TypeUnknownUpload.Is(err) {
			t.Errorf("who brings it hears %v", err)
		}
		synctest.Wait()
		if _, ended := k.state(); ended == nil {
			t.Error("the work goes on")
		}
		if err := s.End(u.Name); !api.TypeUnknownUpload.Is(err) {
			t.Errorf("again: %v", err)
		}
	})
}

func TestFinishIsTriedAgain(t *testing.T) {
	bubble(t, upload.Options{}, func(t *testing.T, s *upload.Set, next func(*keeper)) {
		k := &keeper{unheld: 3}
		next(k)
		u := create(t, s, 3)
		c := connect(t, s, u.Name, 0, 3)
		_ = c.bring("abc")
		if err := c.end(); !api.TypeUnavailable.Is(err) {
			t.Fatalf("%v", err)
		}
		if _, err := s.Upload(t.Context(), u.Name); !api.TypeUnavailable.Is(err) {
			t.Fatalf("%v", err)
		}
		r, err := s.Receipt(t.Context(), u.Name)
		if err != nil { // depends on whether Write saw the first try
			r, err = s.Receipt(t.Context(), u.Name)
		}
		if err != nil || r.ID != "abc" || k.tries != 4 {
			t.Errorf("%+v after %d tries, %v", r, k.tries, err)
		}
	})
}

// What another peer passes on is finished only for a client that comes.
func TestPassedOn(t *testing.T) {
	bubble(t, upload.Options{}, func(t *testing.T, s *upload.Set, _ func(*keeper)) {
		const name = "00112233445566778899aabbccddeeff"
		pass := func(c *wire) chan error {
			c.done = make(chan error, 1)
			c.r, c.w = io.Pipe()
			go func() {
				whole, err := s.Pass(t.Context(), name, c)
				if err == nil && !whole {
					err = io.ErrUnexpectedEOF
				}
				c.done <- err
			}()
			return c.done
		}
		k := &keeper{}
		if _, err := s.Join(t.Context(), name, 6, k); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Join(t.Context(), name, 6, &keeper{}); !api.TypeUploadConflict.Is(err) {
			t.Errorf("two of one name: %v", err)
		}
		c := &wire{}
		done := pass(c)
		_ = c.bring("abc")
		c.breakOff()
		if err := <-done; !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatal(err)
		}
		at, err := s.Upload(t.Context(), name)
		if err != nil || at.Offset != 3 {
			t.Fatalf("%+v, %v", at, err)
		}
		s.Drop(name) // too late: the client is here
		client := connect(t, s, name, 3, 3)
		_ = client.bring("def")
		if err := client.end(); err != nil || k.tries != 1 {
			t.Errorf("%v, %d tries", err, k.tries)
		}

		_ = s.End(name)
		k = &keeper{}
		if _, err := s.Join(t.Context(), name, 6, k); err != nil {
			t.Fatal(err)
		}
		done = pass(c)
		_ = c.bring("abcdef")
		_ = c.w.Close()
		if err := <-done; err != nil || k.tries != 0 {
			t.Fatalf("%v, %d tries", err, k.tries)
		}
		if r, err := s.Receipt(t.Context(), name); err != nil || r.ID != "abcdef" {
			t.Errorf("%+v, %v", r, err)
		}

		_ = s.End(name)
		k = &keeper{}
		if _, err := s.Join(t.Context(), name, 6, k); err != nil {
			t.Fatal(err)
		}
		s.Drop(name)
		synctest.Wait()
		if _, ended := k.state(); ended == nil {
			t.Error("dropped, and it goes on")
		}
		// Come some other way.
		s.Kept(name, 6, &keeper{got: []byte("abcdef")})
		if r, err := s.Receipt(t.Context(), name); err != nil || r.ID != "abcdef" {
			t.Errorf("%+v, %v", r, err)
		}
	})
}

func TestClose(t *testing.T) {
	bubble(t, upload.Options{}, func(t *testing.T, s *upload.Set, next func(*keeper)) {
		next(&keeper{})
		u := create(t, s, 20)
		c := connect(t, s, u.Name, 0, 20)
		_ = c.bring("01")
		next(&keeper{})
		create(t, s, 20)
		s.Close()
		s.Close()
		if err := c.end(); !api.TypeUnavailable.Is(err) {
			t.Errorf("who brings one hears %v", err)
		}
		if _, err := s.Create(t.Context(), api.PushRequest{Length: 5}, ""); !api.TypeUnavailable.Is(err) {
			t.Error(err)
		}
	})
}

// However the connections break, cross and lie, the work reads the body, and each byte once.
func TestAnyConnections(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64().Draw(rt, "seed")
		length := rapid.IntRange(1, 3000).Draw(rt, "length")
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 0))
			body := make([]byte, length)
			for i := range body {
				body[i] = byte(rng.Uint32())
			}
			k := &keeper{}
			s := upload.New(func(string, api.PushRequest) upload.Work { return k }, upload.Options{})
			defer s.Close()
			u := create(t, s, int64(length))
			var wg sync.WaitGroup
			for i := range uint64(3) {
				wg.Go(func() { client(t, s, u.Name, body, rand.New(rand.NewPCG(seed, i+1))) })
			}
			wg.Wait()
			if got, ended := k.state(); !bytes.Equal([]byte(got), body) || ended != nil {
				t.Errorf("%d bytes of %d, %v", len(got), length, ended)
			}
		})
	})
}

// client brings an upload, with interruptions, until it is whole.
func client(t *testing.T, s *upload.Set, name string, body []byte, rng *rand.Rand) {
	for {
		at, err := s.Upload(t.Context(), name)
		if err != nil {
			t.Error(err)
			return
		}
		if at.Whole() {
			return
		}
		offset := at.Offset
		if rng.IntN(10) == 0 {
			offset = rng.Int64N(int64(len(body)) + 1) // a liar, who still has the right bytes
		}
		length := int64(len(body)) - offset
		if rng.IntN(2) == 0 {
			length = -1
		}
		c := connect(t, s, name, offset, length)
		for left := body[offset:]; ; {
			if len(left) == 0 {
				_ = c.w.Close()
				break
			}
			n := 1 + rng.IntN(min(len(left), 200))
			if rng.IntN(8) == 0 {
				c.breakOff()
				break
			}
			if c.bring(string(left[:n])) != nil {
				break
			}
			left = left[n:]
			time.Sleep(time.Duration(rng.IntN(100)) * time.Millisecond)
		}
		if err := c.end(); err != nil && !api.TypeUploadConflict.Is(err) && !api.TypeInvalidRequest.Is(err) {
			t.Error(err)
			return
		}
		time.Sleep(time.Duration(rng.IntN(300)) * time.Millisecond)
	}
}
