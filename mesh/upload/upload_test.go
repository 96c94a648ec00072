package upload_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/upload"
)

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
