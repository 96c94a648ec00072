package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// What can be done with a key of the gossip. Each step is done at all peers before the next: a new key is installed, then used, then the
// old one removed.
const (
	KeyInstall = "install" // what it encrypts is understood from now on
	KeyUse     = "use"     // it encrypts what is sent from now on
	KeyRemove  = "remove"  // what it encrypts is refused from now on
)

// KeyChange is a change of the gossip's keys.
type KeyChange struct {
	Operation string `json:"operation"` // KeyInstall, KeyUse or KeyRemove
	Key       string `json:"key"`       // in base64; to use or remove it, its fingerprint will do
}

// KeyRing is which keys the peers of a mesh have. Keys themselves are never told.
type KeyRing struct {
	Keys []KeyInfo `json:"keys"` // by fingerprint
	// Peers are those that were asked, this one and all others that have not left, by name.
	Peers []KeyPeer `json:"peers"`
	// Complete is true when every peer was reached and did, or had, what was asked.
	Complete bool `json:"complete"`
}

// KeyInfo is one key.
type KeyInfo struct {
	Fingerprint string   `json:"fingerprint"` // 16 hexadecimal digits
	Peers       []string `json:"peers"`       // who has it, by name
	Primary     []string `json:"primary"`     // who encrypts with it, by name
}

// What became of a question to a peer.
const (
	KeyOK         = "ok"
	KeyFailed     = "error"
	KeyNotReached = "not reached"
)

// KeyPeer is what one peer answered.
type KeyPeer struct {
	Name   string `json:"name"`
	Result string `json:"result"`           // KeyOK, KeyFailed or KeyNotReached
	Detail string `json:"detail,omitempty"` // why not
}

// MarshalJSON writes empty lists for nil ones.
func (k KeyRing) MarshalJSON() ([]byte, error) {
	type plain KeyRing
	k.Keys, k.Peers = list(k.Keys), list(k.Peers)
	return json.Marshal(plain(k))
}

// MarshalJSON writes empty lists for nil ones.
func (k KeyInfo) MarshalJSON() ([]byte, error) {
	type plain KeyInfo
	k.Peers, k.Primary = list(k.Peers), list(k.Primary)
	return json.Marshal(plain(k))
}

// KeyKeeper is a Backend whose gossip may be encrypted.
type KeyKeeper interface {
	// Keys asks all peers for their keys.
	Keys(ctx context.Context) (KeyRing, error)
	// ChangeKeys has all peers that are alive do it, and asks them afterwards.
	ChangeKeys(ctx context.Context, change KeyChange) (KeyRing, error)
}

// Types of problems with keys.
const (
	TypeNotEncrypted ProblemType = "not-encrypted" // 409, the mesh has no keys
	TypeUnknownKey   ProblemType = "unknown-key"   // 404
	TypePrimaryKey   ProblemType = "primary-key"   // 409, somebody encrypts with it; "peers" names them
	TypeKeyMissing   ProblemType = "key-missing"   // 409, not all have it; "peers" names them
)

// NotEncrypted is answered with 409.
func NotEncrypted() *Problem {
	return NewProblem(TypeNotEncrypted, http.StatusConflict, "Gossip is not encrypted",
		"this mesh has no keys; make one with fedmesh keygen and start every peer with --keyring-file")
}

// UnknownKey is answered with 404.
func UnknownKey(fingerprint string) *Problem {
	return NewProblem(TypeUnknownKey, http.StatusNotFound, "Unknown key", "no peer has the key "+fingerprint).With("fingerprint", fingerprint)
}

// PrimaryKey is a key that cannot be removed, answered with 409.
func PrimaryKey(fingerprint string, peers []string) *Problem {
	return NewProblem(TypePrimaryKey, http.StatusConflict, "Primary key",
		fmt.Sprintf("%s with the key %s; have all use another one first", encrypts(peers), fingerprint)).With("fingerprint", fingerprint).With("peers", peers)
}

func encrypts(peers []string) string {
	if len(peers) == 1 {
		return "peer " + peers[0] + " encrypts"
	}
	return "peers " + strings.Join(peers, ", ") + " encrypt"
}

// KeyMissing is a key that cannot be used, since others would not understand, answered with 409.
func KeyMissing(fingerprint string, peers []string) *Problem {
	return NewProblem(TypeKeyMissing, http.StatusConflict, "Key not installed",
		fmt.Sprintf("the key %s is not installed at %s; install it everywhere first", fingerprint, strings.Join(peers, ", "))).
		With("fingerprint", fingerprint).With("peers", peers)
}

// Keys asks, at the first peer that answers, which keys the peers have.
func (c *Client) Keys(ctx context.Context) (KeyRing, error) {
	var k KeyRing
	err := c.try(ctx, "keys", c.opts.Passes, func(ctx context.Context, peer string) error {
		k = KeyRing{}
		_, err := c.ask(ctx, peer, call{method: http.MethodGet, path: "/v1/keys"}, &k)
		return err
	})
	return k, err
}

// ChangeKeys has the first peer that answers change the keys of all. KeyRing.Complete tells whether all of them did.
func (c *Client) ChangeKeys(ctx context.Context, change KeyChange) (KeyRing, error) {
	var k KeyRing
	body, err := json.Marshal(change)
	if err != nil {
		return k, fmt.Errorf("api: %w", err)
	}
	err = c.try(ctx, change.Operation+" a key", c.opts.Passes, func(ctx context.Context, peer string) error {
		k = KeyRing{}
		_, err := c.ask(ctx, peer, call{
			method: http.MethodPost, path: "/v1/keys", header: http.Header{"Content-Type": {"application/json"}}, body: Bytes(body),
		}, &k)
		return err
	})
	return k, err
}

// maxKeyBody is how many bytes a change has at most.
const maxKeyBody = 4 << 10

// readKeyChange reads the body of a change. Errors do not repeat what it holds.
func readKeyChange(r io.Reader) (KeyChange, error) {
	var change KeyChange
	b, err := io.ReadAll(io.LimitReader(r, maxKeyBody+1))
	if err != nil {
		return change, InvalidRequest("body", err)
	}
	if len(b) > maxKeyBody {
		return change, TooLarge(maxKeyBody)
	}
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.DisallowUnknownFields()
	if d.Decode(&change) != nil || d.More() {
		return change, InvalidRequest("body", errors.New(`the body is not {"operation": "install", "key": "…"}`))
	}
	switch change.Operation {
	case KeyInstall, KeyUse, KeyRemove:
	default:
		return change, InvalidRequest("operation", fmt.Errorf("operation %q; it must be install, use or remove", clip(change.Operation)))
	}
	if change.Key == "" {
		return change, InvalidRequest("key", errors.New("no key is given"))
	}
	return change, nil
}
