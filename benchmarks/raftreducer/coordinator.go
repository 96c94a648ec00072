package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"

	"github.com/fedmesh/fedmesh/benchmarks/kill/raftctl"
	"github.com/fedmesh/fedmesh/benchmarks/kill/reducer"
)

const (
	again       = 20 * time.Millisecond // until something that failed is tried again
	oneProposal = 3 * time.Second       // for one attempt

	cachedEntries = 512 // of the log in memory, as in Consul
)

var errNoLeader = errors.New("raftreducer: there is no leader just now")

// coordinator implements reducer.Coordinator with Raft.
type coordinator struct {
	self   raftctl.Server
	node   *reducer.Node
	raft   *raft.Raft
	log    *raftboltdb.BoltStore
	trans  *raft.NetworkTransport
	client *http.Client
	leads  atomic.Bool   // leader, and has applied what was decided before
	next   atomic.Uint64 // where to begin among the others

	life context.Context // of what goes on in the background
	end  context.CancelFunc
	wg   sync.WaitGroup
}

func newCoordinator(c reducer.Config, node *reducer.Node, stderr io.Writer) (_ *coordinator, err error) {
	dir := filepath.Join(c.DataDir, "raft")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("raftreducer: %w", err)
	}
	co := &coordinator{
		self: raftctl.Server{ID: c.Listen, Address: c.Peer}, node: node,
		client: &http.Client{Transport: &http.Transport{
			DialContext:         (&net.Dialer{Timeout: time.Second}).DialContext,
			MaxIdleConnsPerHost: 16, ExpectContinueTimeout: time.Second, ResponseHeaderTimeout: 5 * time.Second,
		}},
	}
	// As Consul does: the list of free pages is made again at the start, so that
	// it need not be written with every entry.
	co.log, err = raftboltdb.New(raftboltdb.Options{Path: filepath.Join(dir, "raft.db"), BoltOptions: &bbolt.Options{NoFreelistSync: true}})
	if err != nil {
		return nil, fmt.Errorf("raftreducer: log: %w", err)
	}
	logs, err := raft.NewLogCache(cachedEntries, co.log)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("raftreducer: log: %w", err), co.log.Close())
	}
	snapshots, err := raft.NewFileSnapshotStore(dir, 2, stderr)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("raftreducer: snapshots: %w", err), co.log.Close())
	}
	co.trans, err = raft.NewTCPTransport(c.Peer, nil, 3, 10*time.Second, stderr)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("raftreducer: %s: %w", c.Peer, err), co.log.Close())
	}
	config := raft.DefaultConfig()
	config.LocalID, config.LogOutput, config.LogLevel = raft.ServerID(c.Listen), stderr, "WARN"
	co.raft, err = raft.NewRaft(config, fsm{node}, logs, co.log, snapshots, co.trans)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("raftreducer: %w", err), co.trans.Close(), co.log.Close())
	}
	co.life, co.end = context.WithCancel(context.Background())
	co.wg.Go(co.lead)
	return co, nil
}

// close ends this process's part in Raft.
func (co *coordinator) close() error {
	co.end()
	err := co.raft.Shutdown().Error()
	co.wg.Wait()
	co.client.CloseIdleConnections()
	return errors.Join(err, co.trans.Close(), co.log.Close())
}

// lead notes when this process has become the leader and has caught up with what
// was decided before, and when it no longer is.
func (co *coordinator) lead() {
	for {
		select {
		case leader := <-co.raft.LeaderCh():
			co.leads.Store(leader && co.raft.Barrier(0).Error() == nil)
		case <-co.life.Done():
			return
		}
	}
}

// Leads implements reducer.Coordinator.
func (co *coordinator) Leads() bool { return co.leads.Load() && co.raft.State() == raft.Leader }

// leader is the id of whom this process takes for the leader.
func (co *coordinator) leader() string {
	_, id := co.raft.LeaderWithID()
	return string(id)
}

// Ready implements reducer.Coordinator. Before the cluster is formed there is
// nothing to be ready for.
func (co *coordinator) Ready() error {
	servers, err := co.servers()
	if err != nil {
		return err
	}
	if len(servers) > 0 && co.leader() == "" {
		return errNoLeader
	}
	return nil
}

// servers are the ids of all processes.
func (co *coordinator) servers() ([]string, error) {
	f := co.raft.GetConfiguration()
	if err := f.Error(); err != nil {
		return nil, fmt.Errorf("raftreducer: %w", err)
	}
	var ids []string
	for _, s := range f.Configuration().Servers {
		ids = append(ids, string(s.ID))
	}
	return ids, nil
}

// form begins the cluster; again is no error.
func (co *coordinator) form(servers []raftctl.Server) error {
	var c raft.Configuration
	for _, s := range servers {
		c.Servers = append(c.Servers, raft.Server{ID: raft.ServerID(s.ID), Address: raft.ServerAddress(s.Address)})
	}
	if err := co.raft.BootstrapCluster(c).Error(); err != nil && !errors.Is(err, raft.ErrCantBootstrap) {
		return fmt.Errorf("raftreducer: %w", err)
	}
	return nil
}

// Propose implements reducer.Coordinator: by whoever leads, as often as need be.
// Commands bear being decided twice.
func (co *coordinator) Propose(ctx context.Context, c reducer.Command) (reducer.Result, error) {
	data, err := json.Marshal(c)
	if err != nil {
		return reducer.Result{}, fmt.Errorf("raftreducer: %w", err)
	}
	for {
		r, err := co.proposeOnce(ctx, data)
		if err == nil {
			return r, nil
		}
		if pause(ctx); ctx.Err() != nil {
			return r, fmt.Errorf("%w; %w", ctx.Err(), err)
		}
	}
}

func (co *coordinator) proposeOnce(ctx context.Context, data []byte) (reducer.Result, error) {
	switch leader := co.leader(); leader {
	case "":
		return reducer.Result{}, errNoLeader
	case co.self.ID:
		return co.apply(data)
	default:
		return co.proposeTo(ctx, leader, data)
	}
}

// apply has an entry decided here, at the leader.
func (co *coordinator) apply(data []byte) (reducer.Result, error) {
	f := co.raft.Apply(data, oneProposal)
	if err := f.Error(); err != nil {
		return reducer.Result{}, fmt.Errorf("raftreducer: %w", err)
	}
	o, ok := f.Response().(outcome)
	if !ok {
		return reducer.Result{}, fmt.Errorf("raftreducer: raft returned %T", f.Response())
	}
	return o.result, o.err
}

// proposeTo has the leader decide an entry.
func (co *coordinator) proposeTo(ctx context.Context, leader string, data []byte) (r reducer.Result, err error) {
	ctx, cancel := context.WithTimeout(ctx, oneProposal)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+leader+proposePath, bytes.NewReader(data))
	if err != nil {
		return r, fmt.Errorf("raftreducer: %w", err)
	}
	resp, err := co.client.Do(req)
	if err != nil {
		return r, fmt.Errorf("raftreducer: %w", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxCommand))
	if err != nil {
		return r, fmt.Errorf("raftreducer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return r, fmt.Errorf("raftreducer: %s answers %s: %.200s", leader, resp.Status, text)
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return r, fmt.Errorf("raftreducer: %s: %w", leader, err)
	}
	return r, nil
}

// pause waits until something that failed is tried again, or until ctx ends.
func pause(ctx context.Context) {
	t := time.NewTimer(again)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
