package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/fedmesh/fedmesh/model"
)

// oneTransfer is how long a model may be on its way from one process to another.
const oneTransfer = 30 * time.Second

// others are the ids of the other processes, the leader first, the rest in turn,
// and how many of all make a majority.
func (co *coordinator) others() (ids []string, majority int, err error) {
	servers, err := co.servers()
	if err != nil {
		return nil, 0, err
	}
	majority = len(servers)/2 + 1
	ids = slices.DeleteFunc(servers, func(id string) bool { return id == co.self.ID })
	if n := uint64(len(ids)); n > 0 {
		k := co.next.Add(1) % n
		ids = slices.Concat(ids[k:], ids[:k])
	}
	if i := slices.Index(ids, co.leader()); i > 0 {
		leader := ids[i]
		ids = slices.Insert(slices.Delete(ids, i, i+1), 0, leader)
	}
	return ids, majority, nil
}

// Spread implements reducer.Coordinator: it returns when a majority holds the
// model, this process among it. Without everywhere no more are sent it than that
// takes; with it, the sending to the rest goes on.
func (co *coordinator) Spread(ctx context.Context, d model.Digest, everywhere bool) ([]string, error) {
	holders := []string{co.self.ID}
	last := errNoLeader
	for {
		ids, majority, err := co.others()
		if err != nil {
			return nil, err
		}
		ids = slices.DeleteFunc(ids, func(id string) bool { return slices.Contains(holders, id) })
		type answer struct {
			id  string
			err error
		}
		answers := make(chan answer, len(ids))
		flying := 0
		launch := func() {
			id := ids[0]
			ids = ids[1:]
			flying++
			co.wg.Go(func() { answers <- answer{id, co.send(id, d)} })
		}
		for len(ids) > 0 && (everywhere || len(holders)+flying < majority) {
			launch()
		}
		for flying > 0 && len(holders) < majority {
			select {
			case a := <-answers:
				flying--
				if a.err == nil {
					holders = append(holders, a.id)
				} else if last = a.err; len(ids) > 0 {
					launch()
				}
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		if len(holders) >= majority {
			slices.Sort(holders)
			return holders, nil
		}
		if pause(ctx); ctx.Err() != nil {
			return nil, fmt.Errorf("%w: %d of %d hold the model: %w", ctx.Err(), len(holders), majority, last)
		}
	}
}

// send sends a model that is here to another process, unless it has it.
func (co *coordinator) send(id string, d model.Digest) error {
	ctx, cancel := context.WithTimeout(co.life, oneTransfer)
	defer cancel()
	b, err := co.node.Blobs().Open(d)
	if err != nil {
		return fmt.Errorf("raftreducer: %w", err)
	}
	defer b.Close()
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, "http://"+id+blobPath+d.String(), io.NopCloser(b))
	if err != nil {
		return fmt.Errorf("raftreducer: %w", err)
	}
	req.ContentLength = b.Size()
	req.Header.Set("Expect", "100-continue")
	resp, err := co.client.Do(req)
	if err != nil {
		return fmt.Errorf("raftreducer: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("raftreducer: %s answers %s", id, resp.Status)
	}
	_, err = io.Copy(io.Discard, resp.Body) // so that the connection is used again
	return err
}

// Fetch implements reducer.Coordinator.
func (co *coordinator) Fetch(ctx context.Context, d model.Digest) error {
	var last error
	for {
		ids, _, err := co.others()
		if err != nil {
			return err
		}
		for _, id := range ids {
			if last = co.fetchFrom(ctx, id, d); last == nil {
				return nil
			}
		}
		if pause(ctx); ctx.Err() != nil {
			return errors.Join(ctx.Err(), last)
		}
	}
}

func (co *coordinator) fetchFrom(ctx context.Context, id string, d model.Digest) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+id+blobPath+d.String(), nil)
	if err != nil {
		return fmt.Errorf("raftreducer: %w", err)
	}
	resp, err := co.client.Do(req)
	if err != nil {
		return fmt.Errorf("raftreducer: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("raftreducer: %s answers %s", id, resp.Status)
	}
	return co.node.Receive(ctx, resp.Body, d)
}
