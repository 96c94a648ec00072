package meshtest_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"
	"go.uber.org/goleak"

	"github.com/fedmesh/fedmesh/mesh/meshtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair returns both ends of a stream from a to b.
func pair(t *testing.T, n *meshtest.Network) (client, server net.Conn) {
	t.Helper()
	ln, err := n.Listen("b:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	client, err = n.Dialer("a")(t.Context(), "tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err = ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return client, server
}

func send(t *testing.T, c net.Conn, s string) {
	t.Helper()
	if _, err := c.Write([]byte(s)); err != nil {
		t.Fatal(err)
	}
}

func receive(t *testing.T, c net.Conn, want string) {
	t.Helper()
	buf := make([]byte, len(want))
	if _, err := io.ReadFull(c, buf); err != nil || string(buf) != want {
		t.Fatalf("read %q, %v; want %q", buf, err, want)
	}
}

func TestBothWriteFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := meshtest.NewNetwork(1)
		defer n.Close()
		c, s := pair(t, n)
		big := strings.Repeat("x", 100<<10)
		send(t, c, big)
		send(t, s, big)
		receive(t, c, big)
		receive(t, s, big)
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		if k, err := s.Read(make([]byte, 1)); k != 0 || !errors.Is(err, io.EOF) {
			t.Fatalf("read after close: %d, %v", k, err)
		}
		if _, err := s.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
			t.Fatalf("write to closed: %v", err)
		}
	})
}

func TestWriterWaitsForReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := meshtest.NewNetwork(1)
		defer n.Close()
		c, s := pair(t, n)
		if err := c.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		k, err := c.Write(make([]byte, 1<<20))
		if !errors.Is(err, os.ErrDeadlineExceeded) || k != 256<<10 {
			t.Fatalf("wrote %d, %v", k, err)
		}
		got := make(chan int64)
		go func() {
			k, _ := io.Copy(io.Discard, s)
			got <- k
		}()
		if err := c.SetWriteDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write(make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
		if k := <-got; k != 1<<20+256<<10 {
			t.Fatalf("read %d", k)
		}
	})
}

func TestPartitionStallsThenHeals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, oneWay := range []bool{false, true} {
			n := meshtest.NewNetwork(1)
			c, s := pair(t, n)
			if oneWay {
				n.PartitionOneWay([]string{"b"}, []string{"a"})
			} else {
				n.Partition([]string{"a"}, []string{"b"})
			}
			send(t, c, "hello")
			if err := s.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Read(make([]byte, 5)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("read across a partition: %v", err)
			}
			_ = s.SetReadDeadline(time.Time{})
			time.AfterFunc(5*time.Second, n.Heal)
			start := time.Now()
			receive(t, s, "hello")
			if d := time.Since(start); d != 5*time.Second {
				t.Fatalf("arrived after %v", d)
			}
			n.Close()
		}
	})
}

func TestLongPartitionResets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := meshtest.NewNetwork(1)
		defer n.Close()
		c, s := pair(t, n)
		n.Down("b")
		start := time.Now()
		_, err := s.Read(make([]byte, 1))
		if !errors.Is(err, syscall.ECONNRESET) || time.Since(start) != 30*time.Second {
			t.Fatalf("%v after %v", err, time.Since(start))
		}
		if _, err := c.Write([]byte("x")); !errors.Is(err, syscall.ECONNRESET) {
			t.Fatal(err)
		}
		n.Up("b")
		c, s = pair(t, n)
		send(t, c, "again")
		receive(t, s, "again")
	})
}

func TestDial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := meshtest.NewNetwork(1)
		defer n.Close()
		ln, err := n.Listen("b")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		if _, err := n.Listen("b:80"); !errors.Is(err, syscall.EADDRINUSE) {
			t.Fatalf("second listener: %v", err)
		}
		dial := n.Dialer("a")
		if _, err := dial(t.Context(), "tcp", "b:81"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Fatal(err)
		}
		if _, err := dial(t.Context(), "tcp", "nowhere:80"); err == nil {
			t.Fatal("dialled a host that does not exist")
		}
		n.Partition([]string{"a"}, []string{"b"})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var ne net.Error
		if _, err := dial(ctx, "tcp", "b:80"); !errors.As(err, &ne) || !ne.Timeout() {
			t.Fatalf("dial across a partition: %v", err)
		}
		if _, err := dial(t.Context(), "tcp", "b:80"); !errors.Is(err, syscall.ETIMEDOUT) {
			t.Fatalf("dial without a deadline: %v", err)
		}
		time.AfterFunc(3*time.Second, n.Heal)
		c, err := dial(t.Context(), "tcp", "b:80")
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
	})
}

func TestStreamDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := meshtest.NewNetwork(1)
		defer n.Close()
		n.SetLink(meshtest.Link{MinDelay: 10 * time.Millisecond, MaxDelay: 30 * time.Millisecond})
		start := time.Now()
		c, s := pair(t, n)
		if d := time.Since(start); d < 20*time.Millisecond || d > 60*time.Millisecond {
			t.Fatalf("dial took %v", d)
		}
		start = time.Now()
		for range 100 {
			send(t, c, "a")
			send(t, c, "b")
		}
		receive(t, s, strings.Repeat("ab", 100))
		if d := time.Since(start); d < 10*time.Millisecond || d > 30*time.Millisecond {
			t.Fatalf("took %v", d)
		}
	})
}

func TestHTTP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := meshtest.NewNetwork(1)
		ln, err := n.Listen("b:8080")
		if err != nil {
			t.Fatal(err)
		}
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(w, r.Body)
		})}
		served := make(chan error)
		go func() { served <- srv.Serve(ln) }()
		client := n.HTTPClient("a")
		body := strings.Repeat("z", 2<<20)
		for range 3 {
			res, err := client.Post("http://b:8080/", "text/plain", strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(res.Body)
			if err != nil || string(got) != body {
				t.Fatalf("%d bytes, %v", len(got), err)
			}
			_ = res.Body.Close()
		}
		n.Down("b")
		client.Timeout = 10 * time.Second
		if _, err := client.Get("http://b:8080/"); err == nil {
			t.Fatal("a host that is down answered")
		}
		client.CloseIdleConnections()
		_ = srv.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Fatal(err)
		}
		n.Close()
	})
}

// count sends 1000 datagrams from a to b and says how many arrive.
func count(t *testing.T, from, to memberlist.Transport, addr string) int {
	t.Helper()
	got := 0
	for range 1000 {
		if _, err := from.WriteTo([]byte("x"), addr); err != nil {
			t.Fatal(err)
		}
		for more := true; more; {
			select {
			case <-to.PacketCh():
				got++
			case <-time.After(time.Second):
				more = false
			}
		}
	}
	return got
}

func TestDatagrams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := meshtest.NewNetwork(7)
		defer n.Close()
		a, b := n.Transport("a"), n.Transport("b")
		addrA, addrB := n.GossipAddr("a"), n.GossipAddr("b")
		if got := count(t, a, b, addrB); got != 1000 {
			t.Fatalf("perfect link: %d", got)
		}
		n.SetPair("a", "b", meshtest.Link{Loss: 0.25, MaxDelay: 100 * time.Millisecond})
		if got := count(t, a, b, addrB); got < 700 || got > 800 {
			t.Fatalf("loss of a quarter: %d", got)
		}
		n.SetPair("a", "b", meshtest.Link{Duplicate: 0.25})
		if got := count(t, a, b, addrB); got < 1200 || got > 1300 {
			t.Fatalf("a quarter twice: %d", got)
		}
		n.SetPair("a", "b", meshtest.Link{})
		n.PartitionOneWay([]string{"a"}, []string{"b"})
		if there, back := count(t, a, b, addrB), count(t, b, a, addrA); there != 0 || back != 1000 {
			t.Fatalf("one-way cut: %d there, %d back", there, back)
		}
		n.Heal()
		n.Down("b")
		if got := count(t, a, b, addrB); got != 0 {
			t.Fatalf("host down: %d", got)
		}
		n.Up("b")
		again := n.Transport("b")
		if got := count(t, a, again, addrB); got != 1000 || len(b.PacketCh()) != 0 {
			t.Fatalf("restarted transport: old %d, new %d", len(b.PacketCh()), got)
		}
	})
}
