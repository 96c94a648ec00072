package main

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/hashicorp/raft"

	"github.com/fedmesh/fedmesh/benchmarks/kill/reducer"
)

// fsm gives what Raft has decided to the node.
type fsm struct{ node *reducer.Node }

// outcome is what Apply returns through Raft to the one who proposed.
type outcome struct {
	result reducer.Result
	err    error
}

// Apply implements raft.FSM.
func (f fsm) Apply(l *raft.Log) any {
	var c reducer.Command
	if err := json.Unmarshal(l.Data, &c); err != nil {
		return outcome{err: fmt.Errorf("raftreducer: %w", err)}
	}
	r, err := f.node.Apply(c)
	return outcome{r, err}
}

// Snapshot implements raft.FSM.
func (f fsm) Snapshot() (raft.FSMSnapshot, error) {
	b, err := f.node.Snapshot()
	return snapshot(b), err
}

// Restore implements raft.FSM.
func (f fsm) Restore(r io.ReadCloser) error {
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		return fmt.Errorf("raftreducer: snapshot: %w", err)
	}
	return f.node.Restore(b)
}

// snapshot is a state as it was.
type snapshot []byte

// Persist implements raft.FSMSnapshot.
func (s snapshot) Persist(sink raft.SnapshotSink) error {
	if _, err := sink.Write(s); err != nil {
		_ = sink.Cancel()
		return fmt.Errorf("raftreducer: snapshot: %w", err)
	}
	return sink.Close()
}

// Release implements raft.FSMSnapshot.
func (snapshot) Release() {}
