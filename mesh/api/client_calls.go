package api

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// CreateSession opens a session with its seed model; created is false when the same one was open already.
func (c *Client) CreateSession(ctx context.Context, name string, cfg SessionConfig, seed Source) (info SessionInfo, created bool, err error) {
	if err := CheckName("session", name); err != nil {
		return info, false, InvalidRequest("session", err)
	}
	if err := cfg.Validate(); err != nil {
		return info, false, invalidConfig(err)
	}
	config, err := json.Marshal(cfg)
	if err != nil {
		return info, false, fmt.Errorf("api: %w", err)
	}
	kind, body := formBody(config, seed)
	err = c.try(ctx, "create session "+name, c.opts.Passes, func(ctx context.Context, peer string) error {
		status, err := c.ask(ctx, peer, call{
			method: http.MethodPut, path: sessionPath(name),
			header: http.Header{"Content-Type": {kind}}, body: body,
		}, &info)
		created = status == http.StatusCreated
		return err
	})
	return info, created, err
}

// formBody wraps a config and a seed into multipart/form-data, with the length known when the seed's is.
func formBody(config []byte, seed Source) (contentType string, body Source) {
	var random [16]byte
	_, _ = rand.Read(random[:]) // never fails
	boundary := "fedmesh-" + hex.EncodeToString(random[:])
	head := "--" + boundary + "\r\nContent-Disposition: form-data; name=\"config\"\r\nContent-Type: application/json\r\n\r\n" +
		string(config) +
		"\r\n--" + boundary + "\r\nContent-Disposition: form-data; name=\"seed\"; filename=\"seed\"\r\nContent-Type: application/octet-stream\r\n\r\n"
	tail := "\r\n--" + boundary + "--\r\n"
	return "multipart/form-data; boundary=" + boundary, func() (io.ReadCloser, int64, error) {
		rc, n, err := seed()
		if err != nil {
			return nil, 0, err
		}
		if n >= 0 {
			n += int64(len(head) + len(tail))
		}
		return struct {
			io.Reader
			io.Closer
		}{io.MultiReader(strings.NewReader(head), rc, strings.NewReader(tail)), rc}, n, nil
	}
}

// CloseSession closes a session, given by name or key.
func (c *Client) CloseSession(ctx context.Context, session string) (SessionInfo, error) {
	var info SessionInfo
	return info, c.about(ctx, "close session", session, http.MethodPost, "/close", nil, &info)
}

// Sessions lists all sessions, sorted by name.
func (c *Client) Sessions(ctx context.Context) ([]SessionInfo, error) {
	var list sessionList
	err := c.get(ctx, "list sessions", "/v1/sessions", &list)
	return list.Sessions, err
}

// Session describes one, given by name or key.
func (c *Client) Session(ctx context.Context, session string) (SessionInfo, error) {
	var info SessionInfo
	return info, c.about(ctx, "get session", session, http.MethodGet, "", nil, &info)
}

// Rounds lists up to limit rounds (at most 1000; 0: 100) from the given one upwards; from 0, the last ones.
func (c *Client) Rounds(ctx context.Context, session string, from uint64, limit int) ([]RoundInfo, error) {
	q := url.Values{}
	if from > 0 {
		q.Set("from", strconv.FormatUint(from, 10))
	}
	if limit > 0 {
		q.Set("limit", strconv.Itoa(limit))
	}
	var list roundList
	err := c.about(ctx, "list rounds", session, http.MethodGet, "/rounds", q, &list)
	return list.Rounds, err
}

// Round describes one.
func (c *Client) Round(ctx context.Context, session string, n uint64) (RoundInfo, error) {
	var info RoundInfo
	return info, c.about(ctx, "get round", session, http.MethodGet, "/rounds/"+strconv.FormatUint(n, 10), nil, &info)
}

// Mesh describes the mesh as the peer that answers sees it.
func (c *Client) Mesh(ctx context.Context) (MeshInfo, error) {
	var info MeshInfo
	err := c.get(ctx, "get mesh", "/v1/mesh", &info)
	return info, err
}

// Ready is nil when a peer takes part. It makes one pass.
func (c *Client) Ready(ctx context.Context) error {
	return c.try(ctx, "ready", 1, func(ctx context.Context, peer string) error {
		_, err := c.ask(ctx, peer, call{method: http.MethodGet, path: "/readyz"}, nil)
		return err
	})
}

// Leave makes a peer leave the mesh for good. The client must be of that one peer (see Peer). It is asked once and may take its
// time: it hands over what it holds first.
func (c *Client) Leave(ctx context.Context) error {
	if len(c.peers) != 1 {
		return fmt.Errorf("api: leave: the client has %d peers; say which one leaves", len(c.peers))
	}
	return c.try(ctx, "leave", 1, func(ctx context.Context, peer string) error {
		_, err := c.ask(ctx, peer, call{method: http.MethodPost, path: "/v1/leave", extra: 24 * time.Hour}, nil)
		return err
	})
}

// Events calls fn with each event of one peer, the first that answers, until the context ends, fn fails or the stream breaks, and returns
// that error. Events of before the call and of the time between two calls are not delivered.
func (c *Client) Events(ctx context.Context, fn func(Event) error) error {
	return c.try(ctx, "events", 1, func(ctx context.Context, peer string) error {
		// Three heartbeats.
		resp, err := c.send(ctx, peer, call{method: http.MethodGet, path: "/v1/events", idle: 45 * time.Second})
		if err != nil {
			return err
		}
		defer func() { _ = resp.Body.Close() }()
		lines := bufio.NewScanner(resp.Body)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			data, ok := bytes.CutPrefix(lines.Bytes(), []byte("data: "))
			if !ok {
				continue
			}
			var e Event
			if err := json.Unmarshal(data, &e); err != nil {
				return &localError{fmt.Errorf("api: an event: %w", err)}
			}
			if err := fn(e); err != nil {
				return &localError{err}
			}
		}
		if err := lines.Err(); err != nil {
			return &localError{err}
		}
		return &localError{io.ErrUnexpectedEOF}
	})
}

func (c *Client) get(ctx context.Context, what, path string, v any) error {
	return c.try(ctx, what, c.opts.Passes, func(ctx context.Context, peer string) error {
		_, err := c.ask(ctx, peer, call{method: http.MethodGet, path: path}, v)
		return err
	})
}

// about makes a call about a session without a body.
func (c *Client) about(ctx context.Context, what, session, method, rest string, q url.Values, v any) error {
	if err := CheckName("session", session); err != nil {
		return InvalidRequest("session", err)
	}
	return c.try(ctx, what+" "+session, c.opts.Passes, func(ctx context.Context, peer string) error {
		status, err := c.ask(ctx, peer, call{method: method, path: sessionPath(session) + rest, query: q}, v)
		if err == nil && status != http.StatusOK {
			err = errors.New("api: unexpected status " + strconv.Itoa(status))
		}
		return err
	})
}

// sessionPath is the path of a session whose name has been checked, so that nothing in it needs escaping.
func sessionPath(name string) string { return "/v1/sessions/" + name }
