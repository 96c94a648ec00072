package fedn

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/fedmesh/fedmesh/aggregate"
	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/model"
)

var (
	// errForeign is returned for an update that was trained from a model which the session does not have.
	errForeign = errors.New("fedn: trained from another model")
	// errLost is returned for an update whose model is no longer on disk.
	errLost = errors.New("fedn: the update's model is gone from the disk")
	// errDamaged is returned for an update whose note cannot be read.
	errDamaged = errors.New("fedn: the update's note is damaged")
)

// openError is a session that does not exist and that could not be opened.
type openError struct {
	session string
	err     error
}

func (e *openError) Error() string {
	return fmt.Sprintf("fedn: session %q does not exist and could not be opened: %v", e.session, e.err)
}

func (e *openError) Unwrap() error { return e.err }

// statusOf is the HTTP status of a refusal, 0 for anything else.
func statusOf(err error) int {
	if p, ok := errors.AsType[*api.Problem](err); ok {
		return p.Status
	}
	return 0
}

// away reports whether the mesh did not answer, or not for now.
func away(err error) bool {
	s := statusOf(err)
	return s == 0 && !permanent(err) && !ownDisk(err) || s >= 500 || s == http.StatusRequestTimeout || s == http.StatusTooManyRequests
}

// ownDisk reports whether it is the gateway's own disk that fails.
func ownDisk(err error) bool {
	_, path := errors.AsType[*fs.PathError](err)
	_, link := errors.AsType[*os.LinkError](err)
	return path || link
}

// permanent reports whether an update will never be taken, whoever mends what.
func permanent(err error) bool {
	if _, ok := errors.AsType[*aggregate.ValueError](err); ok {
		return true
	}
	is := func(target error) bool { return errors.Is(err, target) }
	if slices.ContainsFunc([]error{errForeign, errLost, errDamaged, errShape, errValue, model.ErrFormat, model.ErrLayout}, is) {
		return true
	}
	return slices.ContainsFunc([]api.ProblemType{
		api.TypeInvalidRequest, api.TypeUnreadableModel, api.TypeSessionClosed, api.TypeUpdateConflict, api.TypeBaseGone, api.TypeWrongLayout, api.TypeInvalidValue,
	}, func(t api.ProblemType) bool { return t.Is(err) })
}

// advice says what to do.
func (g *Gateway) advice(err error) string {
	status := statusOf(err)
	_, value := errors.AsType[*aggregate.ValueError](err)
	if opening, ok := errors.AsType[*openError](err); ok && status >= 400 && status < 500 {
		if status == http.StatusUnauthorized || status == http.StatusForbidden {
			return fmt.Sprintf("open it as an operator (fedmesh session create %s), since this gateway's token may not, or correct --session", opening.session)
		}
		return "correct the flags that say what the session is opened with, or open it with fedmesh session create"
	}
	switch {
	case errors.Is(err, errForeign):
		return fmt.Sprintf("start FEDn from the session's model, which fedmesh pull %s --format npz -o seed.npz gets", g.cfg.Session)
	case errors.Is(err, errLost), errors.Is(err, errDamaged):
		return "look after the disk of --data-dir; the update is not counted"
	case errors.Is(err, errShape), errors.Is(err, errValue), value, api.TypeWrongLayout.Is(err), api.TypeInvalidValue.Is(err):
		return "train models of the session's tensors, with finite values, or give another --session for another model"
	case errors.Is(err, model.ErrFormat), api.TypeUnreadableModel.Is(err):
		return "send models as FEDn's numpy helper saves them, npz"
	case api.TypeSessionClosed.Is(err):
		return "stop training, or go on in a new session with another --session"
	case api.TypeUpdateConflict.Is(err):
		return "see that no other gateway has this --combiner"
	case api.TypeBaseGone.Is(err):
		return "nothing; it came too late. Peers that keep more models (--keep-models) take later ones"
	case status == http.StatusUnauthorized:
		return "give a token that the peers know (--token-file): fedmesh token new --role combiner, and its line in every peer's tokens file"
	case status == http.StatusForbidden:
		return fmt.Sprintf("give a token (--token-file) of role combiner that is bound to nothing else than the combiner %s and the session %s", g.cfg.Combiner, g.cfg.Session)
	case status == http.StatusNotFound:
		return "check --session and --peers; a session that nobody opened is opened with the combiner's next global model"
	case status == http.StatusRequestEntityTooLarge:
		return "have the peers take larger models (node --max-body)"
	case ownDisk(err):
		return "free the disk of --data-dir, or see what is wrong with it"
	case permanent(err):
		return "see the error; the update is not counted"
	case away(err):
		return "start the peers, or correct --peers; nothing else needs doing: updates wait on disk until then"
	}
	return "see the error"
}

// trouble is what is wrong at present, so that it is said once and not all the time.
type trouble struct {
	mu   sync.Mutex
	now  string               // for the combiner's log; empty: all is well
	said map[string]time.Time // by what was said
}

// fresh reports whether a thing was not said for a while, and takes it for said.
func (t *trouble) fresh(what string, again time.Duration) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if at, ok := t.said[what]; ok && now.Sub(at) < again {
		return false
	}
	if t.said == nil || len(t.said) > 100 {
		t.said = map[string]time.Time{}
	}
	t.said[what] = now
	return true
}

func (t *trouble) is(text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.now = text
}

func (t *trouble) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.now
}

// over reports whether there was any, which there is no more.
func (t *trouble) over() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	was := t.now != ""
	t.now = ""
	clear(t.said)
	return was
}

// complain says what keeps the gateway from its work, once in a while, and what to do.
func (g *Gateway) complain(err error) {
	what, do := "the mesh refuses this gateway", g.advice(err)
	level := g.log.Error
	kind := do
	if p, ok := errors.AsType[*api.Problem](err); ok {
		kind = cmp.Or(p.Detail, p.Type)
	}
	if ownDisk(err) {
		what = "the gateway's own disk does not do what it should"
	}
	if away(err) {
		what, level, kind = "the mesh cannot be reached", g.log.Warn, ""
	}
	g.trouble.is(fmt.Sprintf("%s: %v: %s", what, err, do))
	if g.trouble.fresh(kind, g.cfg.again) {
		level().Err(err).Str("do", do).Msg(what)
	}
}

// well is called when the mesh took something.
func (g *Gateway) well() {
	if g.trouble.over() {
		g.log.Info().Msg("the mesh takes this gateway's work again")
	}
}
