package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"
)

// Limits of a session's config.
const (
	maxName        = 128
	maxCombiners   = 1_000_000
	maxCopies      = 64
	maxParams      = 64
	maxParamLength = 256
	maxDuration    = Duration(30 * 24 * time.Hour)
	maxConfig      = 64 << 10 // bytes of JSON
)

// Duration is a time.Duration that reads and writes itself as text: "60s", "1m30s", "500ms".
type Duration time.Duration

// String is time.Duration's form.
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText writes String.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what time.ParseDuration reads.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return fmt.Errorf("api: %q is not a duration such as \"60s\" or \"500ms\"", clip(string(b)))
	}
	*d = Duration(v)
	return nil
}

// SessionConfig is fixed when a session opens.
type SessionConfig struct {
	Strategy        string            `json:"strategy"`         // how updates become a model
	Params          map[string]string `json:"params,omitempty"` // the strategy's parameters
	TargetCombiners int               `json:"target_combiners"` // a round is sealed when so many combiners are in; 0: by time only
	MinCombiners    int               `json:"min_combiners"`    // a round with fewer keeps the model and its updates wait
	Copies          int               `json:"copies"`           // peers that hold an update before it is acknowledged
	RoundTimeout    Duration          `json:"round_timeout"`    // a round is sealed after this, once MinCombiners are in
	SettleTimeout   Duration          `json:"settle_timeout"`   // how long the first seal waits for the others'
	LostAfter       Duration          `json:"lost_after"`       // an update that nobody can deliver for so long is lost
}

// DefaultSessionConfig is what a session gets where its config is silent.
func DefaultSessionConfig() SessionConfig {
	return SessionConfig{
		Strategy:      "fedavg",
		MinCombiners:  1,
		Copies:        2,
		RoundTimeout:  Duration(60 * time.Second),
		SettleTimeout: Duration(500 * time.Millisecond),
		LostAfter:     Duration(30 * time.Second),
	}
}

// Validate lists all faults, joined; nil when there are none. Whether the strategy exists and takes these parameters
// is the backend's to say.
func (c SessionConfig) Validate() error {
	var faults []error
	bad := func(format string, args ...any) { faults = append(faults, fmt.Errorf("api: config: "+format, args...)) }
	within := func(name string, v, low, high int) {
		if v < low || v > high {
			bad("%s is %d; it must be %d to %d", name, v, low, high)
		}
	}
	lasts := func(name string, d, low Duration) {
		if d < low || d > maxDuration {
			bad("%s is %v; it must be %v to %v", name, d, low, maxDuration)
		}
	}
	if err := CheckName("strategy", c.Strategy); err != nil {
		faults = append(faults, err)
	}
	if len(c.Params) > maxParams {
		bad("%d params; at most %d", len(c.Params), maxParams)
	}
	for _, k := range slices.Sorted(maps.Keys(c.Params)) {
		if err := CheckName("param", k); err != nil {
			faults = append(faults, err)
		}
		if len(c.Params[k]) > maxParamLength {
			bad("param %q has %d bytes; at most %d", clip(k), len(c.Params[k]), maxParamLength)
		}
	}
	within("target_combiners", c.TargetCombiners, 0, maxCombiners)
	within("min_combiners", c.MinCombiners, 1, maxCombiners)
	if c.TargetCombiners > 0 && c.TargetCombiners < c.MinCombiners {
		bad("target_combiners is %d, below min_combiners %d: no round could close by its target", c.TargetCombiners, c.MinCombiners)
	}
	within("copies", c.Copies, 1, maxCopies)
	lasts("round_timeout", c.RoundTimeout, Duration(10*time.Millisecond))
	lasts("settle_timeout", c.SettleTimeout, 0)
	lasts("lost_after", c.LostAfter, Duration(10*time.Millisecond))
	return errors.Join(faults...)
}

// ParseSessionConfig reads JSON over the defaults and validates it. Unknown fields, trailing bytes and more than 64 KiB
// are refused.
func ParseSessionConfig(r io.Reader) (SessionConfig, error) {
	c := DefaultSessionConfig()
	b, err := io.ReadAll(io.LimitReader(r, maxConfig+1))
	if err != nil {
		return c, fmt.Errorf("api: config: %w", err)
	}
	if len(b) > maxConfig {
		return c, fmt.Errorf("api: the config has more than %d bytes", maxConfig)
	}
	switch text := bytes.TrimSpace(b); {
	case len(text) == 0:
		return c, errors.New("api: the config is empty; send a JSON object, {} for the defaults")
	case text[0] != '{':
		return c, fmt.Errorf("api: the config is no JSON object, it begins with %q", text[:1])
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&c); err != nil {
		return c, fmt.Errorf("api: config: %w", explainJSON(err, b))
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return c, errors.New("api: something follows the config's JSON object")
	}
	return c, c.Validate()
}

// explainJSON says in JSON's words what encoding/json says in Go's.
func explainJSON(err error, config []byte) error {
	var (
		kind   *json.UnmarshalTypeError
		syntax *json.SyntaxError
	)
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the config ends before its JSON object does")
	case errors.As(err, &syntax):
		return fmt.Errorf("the config is no JSON at byte %d: %w", syntax.Offset, err)
	case errors.As(err, &kind):
		want := "an integer"
		switch kind.Type.Kind() {
		case reflect.String:
			want = "text"
		case reflect.Map:
			want = "an object of texts"
		case reflect.Int64:
			want = `a duration in text, such as "60s"`
		}
		return fmt.Errorf("%q is a JSON %s; it must be %s", kind.Field, kind.Value, want)
	}
	if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		return fmt.Errorf("there is no field %s; known: %s", clip(name), strings.Join(configFields(), ", "))
	}
	// What is left comes from a Duration, which does not know its own name.
	var raw map[string]json.RawMessage
	_ = json.Unmarshal(config, &raw)
	for _, name := range configFields() {
		var d Duration
		if e := json.Unmarshal(raw[name], &d); e != nil && e.Error() == err.Error() {
			return fmt.Errorf("%s: %s", name, detail(err))
		}
	}
	return errors.New(detail(err))
}

// configFields returns the names of a config's fields in JSON.
func configFields() []string {
	var names []string
	for f := range reflect.TypeFor[SessionConfig]().Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		names = append(names, name)
	}
	return names
}

// CheckName says what is wrong with the name of a session, a combiner, a metric (what says which): 1 to 128 characters of
// [A-Za-z0-9._-], the first not a dot.
func CheckName(what, s string) error {
	const rule = "1 to 128 characters of A-Z a-z 0-9 . _ -, not starting with a dot"
	switch {
	case s == "":
		return fmt.Errorf("api: the %s name is empty; it must be %s", what, rule)
	case len(s) > maxName:
		return fmt.Errorf("api: the %s name has %d bytes; it must be %s", what, len(s), rule)
	case s[0] == '.':
		return fmt.Errorf("api: the %s name %q starts with a dot; it must be %s", what, s, rule)
	}
	for _, r := range s {
		ok := 'A' <= r && r <= 'Z' || 'a' <= r && r <= 'z' || '0' <= r && r <= '9' || r == '.' || r == '_' || r == '-'
		if !ok {
			return fmt.Errorf("api: the %s name %+q contains %+q; it must be %s", what, s, r, rule)
		}
	}
	return nil
}

// CheckID says what is wrong with an update's id: 1 to 128 printable ASCII characters without slashes and spaces.
func CheckID(s string) error {
	const rule = "1 to 128 printable ASCII characters without slashes, backslashes and spaces"
	switch {
	case s == "":
		return fmt.Errorf("api: the id is empty; it must be %s", rule)
	case len(s) > maxName:
		return fmt.Errorf("api: the id has %d bytes; it must be %s", len(s), rule)
	}
	for _, r := range s {
		if r <= ' ' || r >= 0x7f || r == '/' || r == '\\' {
			return fmt.Errorf("api: the id %+q contains %+q; it must be %s", s, r, rule)
		}
	}
	return nil
}

// clip shortens what came from outside before it goes into a message.
func clip(s string) string {
	const limit = 64
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "..."
}
