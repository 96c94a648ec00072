//go:build unix

package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/meshtest/process"
	"github.com/fedmesh/fedmesh/model"
)

var uploadMB = flag.Int64("upload.mb", 48, "size of the update of TestUploadsSurvive, in MB")

// again is what may have to be sent a second time when a connection breaks or a peer dies.
const again = 4 << 20

// TestUploadsSurvive pushes large updates to real processes while connections break and the process that accepts is killed. Each goes on where
// it was, at the same peer or at the one that it was streamed to.
func TestUploadsSurvive(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	var large []string
	t.Cleanup(func() { // behind the end of the processes, which start later
		for _, dir := range large {
			_ = os.RemoveAll(dir)
		}
	})
	cluster, binary := startCluster(ctx, t, 3)
	for _, name := range cluster.Names() {
		large = append(large, cluster.DataDir(name))
	}
	file := filepath.Join(t.TempDir(), "update.safetensors")
	size := zeros(t, file, *uploadMB<<20)
	config := api.DefaultSessionConfig()
	config.TargetCombiners, config.RoundTimeout = 4, api.Duration(time.Hour)
	if _, _, err := newUploader(t, cluster, 0, nil).client.CreateSession(ctx, "s", config, api.File(file)); err != nil {
		t.Fatal(err)
	}
	var receipts []api.Receipt
	push := func(u *uploader, combiner string) {
		t.Helper()
		begin := time.Now()
		r, err := u.client.Push(ctx, "s", api.PushOptions{Combiner: combiner, Weight: 1, Base: "latest"}, api.File(file))
		if err != nil {
			t.Fatal(err)
		}
		if r.Duplicate || len(r.Copies) != 2 {
			t.Errorf("receipt %+v", r)
		}
		receipts = append(receipts, r)
		u.check(t, size)
		t.Logf("%s: %v for %d bytes, %d of them twice, %s", combiner, time.Since(begin).Round(time.Millisecond), size, u.handed.Load()-size, u.goesOn())
	}

	// The connection breaks, and what is on its way is lost.
	push(newUploader(t, cluster, size/2, func(c *net.TCPConn) {
		if err := errors.Join(c.SetLinger(0), c.Close()); err != nil {
			t.Error(err)
		}
	}), "cut")

	// The peer is killed. It was streaming to another.
	push(newUploader(t, cluster, size/2, func(*net.TCPConn) {
		if err := cluster.Kill("a"); err != nil {
			t.Error(err)
		}
	}), "killed")
	if err := cluster.Restart(ctx, "a"); err != nil {
		t.Fatal(err)
	}

	// The command does the same.
	receipts = append(receipts, pushCommand(ctx, t, cluster, binary, file))
	if err := cluster.Restart(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	last := newUploader(t, cluster, 0, nil)
	push(last, "calm")

	if _, err := last.client.CloseSession(ctx, "s"); err != nil {
		t.Fatal(err)
	}
	verdict, err := process.Check(ctx, process.CheckOptions{Session: "s", Peers: cluster.Peers(), Receipts: receipts, Timeout: 2 * time.Minute})
	if err == nil {
		err = verdict.Err()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// zeros makes a model file of about n bytes, which takes no room on the disk, and returns its size.
func zeros(t *testing.T, path string, n int64) int64 {
	t.Helper()
	l, err := model.NewLayout([]model.Tensor{{Name: "w", DType: model.F32, Shape: []int64{n / 4}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(path, l.Header(), 0o600), os.Truncate(path, l.Size())); err != nil {
		t.Fatal(err)
	}
	return l.Size()
}

// uploader is a client whose connections are counted.
type uploader struct {
	client *api.Client
	handed atomic.Int64 // bytes given to connections
	log    logText
}

// newUploader makes one; once it has handed over so many bytes, at is called with the connection.
func newUploader(t *testing.T, cluster *process.Cluster, after int64, at func(*net.TCPConn)) *uploader {
	t.Helper()
	u := &uploader{}
	log := zerolog.New(&u.log)
	var once sync.Once
	var err error
	u.client, err = api.NewClient(cluster.URLs(), api.ClientOptions{
		Logger: &log,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			tcp, ok := conn.(*net.TCPConn)
			if !ok {
				return nil, fmt.Errorf("%T is no TCP connection", conn)
			}
			return &countedConn{tcp, func(c *net.TCPConn, n int) {
				if u.handed.Add(int64(n)) >= after && at != nil {
					once.Do(func() { at(c) })
				}
			}}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(u.client.Close)
	return u
}

// check holds the bytes that were handed over against those that there are.
func (u *uploader) check(t *testing.T, size int64) {
	t.Helper()
	const headers = 64 << 10
	if n := u.handed.Load() - size; n > again+headers {
		t.Errorf("%d bytes were sent again, more than %d", n, again)
	}
}

// goesOn is what the client said of going on.
func (u *uploader) goesOn() string {
	var said []string
	for line := range strings.Lines(u.log.String()) {
		if strings.Contains(line, "goes on") {
			said = append(said, strings.TrimSpace(line))
		}
	}
	return strings.Join(said, " ")
}

type countedConn struct {
	*net.TCPConn
	wrote func(c *net.TCPConn, n int)
}

func (c *countedConn) Write(b []byte) (int, error) {
	n, err := c.TCPConn.Write(b)
	c.wrote(c.TCPConn, n)
	return n, err
}

// ReadFrom counts, too.
func (c *countedConn) ReadFrom(r io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{c}, r)
}

// logText is a log that a test reads while it is written.
type logText struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// killedAfter stands before a peer, at the URL that it returns, and has it killed once it was handed so many bytes: never too late, however long the
// test was not looked after. What killed returns is how that went.
func killedAfter(ctx context.Context, t *testing.T, cluster *process.Cluster, name string, after int64) (url string, killed func() error) {
	t.Helper()
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	to := strings.TrimPrefix(urlOf(cluster, name), "http://")
	done := make(chan error, 1)
	var (
		handed atomic.Int64
		once   sync.Once
		conns  sync.WaitGroup
	)
	forward := func(from net.Conn) {
		defer from.Close()
		peer, err := (&net.Dialer{}).DialContext(ctx, "tcp", to)
		if err != nil {
			return // it is dead
		}
		defer peer.Close()
		conns.Go(func() {
			_, _ = io.Copy(from, peer)
			_ = from.Close()
		})
		buffer := make([]byte, 64<<10)
		for {
			n, err := from.Read(buffer)
			if _, failed := peer.Write(buffer[:n]); err != nil || failed != nil {
				return
			}
			if handed.Add(int64(n)) >= after {
				once.Do(func() { done <- cluster.Kill(name) })
			}
		}
	}
	conns.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			conns.Go(func() { forward(conn) })
		}
	})
	t.Cleanup(func() { // the command has ended, and its connections with it
		_ = ln.Close()
		conns.Wait()
	})
	return "http://" + ln.Addr().String(), func() error {
		if n := handed.Load(); n < after {
			return fmt.Errorf("%s lives: it was handed %d bytes, not %d", name, n, after)
		}
		return <-done
	}
}

// pushCommand runs the command and kills the peer that it pushes to once that has some of the update.
func pushCommand(ctx context.Context, t *testing.T, cluster *process.Cluster, binary, file string) api.Receipt {
	t.Helper()
	a, killed := killedAfter(ctx, t, cluster, "a", *uploadMB<<20/4)
	cmd := exec.CommandContext(ctx, binary, "push", "s", file, "--peers", strings.Join(append([]string{a}, cluster.URLs()[1:]...), ","), "--combiner", "command", "--weight", "1", "--json")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s", err, errs.String())
	}
	if err := killed(); err != nil {
		t.Fatalf("%v: %s", err, out.String())
	}
	var r api.Receipt
	if err := json.Unmarshal(out.Bytes(), &r); err != nil || len(r.Copies) != 2 {
		t.Fatalf("%v, %s", err, out.String())
	}
	return r
}
