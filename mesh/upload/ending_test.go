package upload_test

import (
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/upload"
)

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
