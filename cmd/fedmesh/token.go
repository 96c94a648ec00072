package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fedmesh/fedmesh/mesh/access"
)

// tokenVariable holds a token itself. There is no flag for that: command lines are seen by everybody on a machine.
const tokenVariable = "FEDMESH_TOKEN"

// lookupKey is the key of the environment in a command's context.
type lookupKey struct{}

// withLookup hands the environment on to where only the command is known.
func withLookup(ctx context.Context, lookup func(string) (string, bool)) context.Context {
	return context.WithValue(ctx, lookupKey{}, lookup)
}

// clientToken is the token a command shows: of the file, else of the environment, else none.
func clientToken(cmd *cobra.Command, file string) (string, error) {
	if file != "" {
		token, err := access.ReadSecret(file)
		if err != nil {
			return "", fmt.Errorf("--token-file: %w", err)
		}
		return token, nil
	}
	lookup, ok := cmd.Context().Value(lookupKey{}).(func(string) (string, bool))
	if !ok {
		return "", nil
	}
	token, _ := lookup(tokenVariable)
	if token = strings.TrimSpace(token); token == "" {
		return "", nil
	}
	if _, err := access.HashOf(token); err != nil {
		return "", usagef("%s holds no token: one is \"fedmesh_\" and 43 characters", tokenVariable)
	}
	return token, nil
}

func newToken(a *app) *cobra.Command {
	return group("token", "Make tokens, which say who may do what", newTokenNew(a), newTokenList(a))
}

// madeToken is what `fedmesh token new --json` prints.
type madeToken struct {
	Token string `json:"token"`
	Line  string `json:"line"`           // for the tokens file
	File  string `json:"file,omitempty"` // that it was appended to
}

func newTokenNew(a *app) *cobra.Command {
	var (
		g                   access.Grant
		role, expires, file string
		asJSON              bool
	)
	cmd := &cobra.Command{
		Use:   "new --role ROLE",
		Short: "Make a token and the line that lets it in",
		Long: `Make a token. It is printed this once, on standard output, and kept nowhere: give
it to who is to use it, in a file that only they can read. The line for the peers'
tokens file has only its hash, and goes to standard error or, with --file, to the
end of that file. All peers need the line; they see a changed file by themselves.

Roles:
  combiner  pushes updates and reads the sessions it pushes to; --combiner and
            --session bind it to one combiner's name and to sessions
  reader    reads everything, changes nothing: dashboards, monitoring
  operator  does everything that users can
  peer      is another peer: for --peer-token-file, good for nothing else`,
		Example: `  fedmesh token new --role combiner --combiner c1 --session digits --expires 90d --file tokens > c1.token
  fedmesh token new --role reader --name grafana --file tokens > grafana.token`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			g.Role = access.Role(role)
			now := time.Now()
			if expires != "" {
				d, err := parseDays(expires)
				if err != nil {
					return usagef("--expires is %q: %w", expires, err)
				}
				g.Expires = now.Add(d)
			}
			if g.Name == "" {
				g.Name = fmt.Sprintf("%s-%s", role, now.UTC().Format("20060102-150405.000"))
			}
			token := access.NewToken()
			h, err := access.HashOf(token)
			if err != nil {
				return err
			}
			line, err := access.Line(g, h)
			if err != nil {
				return &usageError{err}
			}
			if file != "" {
				if err := appendToken(file, g.Name, line); err != nil {
					return err
				}
			} else if !asJSON {
				fmt.Fprintf(a.err, "the line for the tokens file:\n%s\n", line)
			}
			return a.result(asJSON, madeToken{Token: token, Line: line, File: file}, token+"\n")
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&role, "role", "", "combiner, reader, operator or peer (required)")
	fs.StringVar(&g.Name, "name", "", "the token's `name`, by which logs call it (default role and time)")
	fs.StringVar(&g.Combiner, "combiner", "", "the one combiner's `name` that it is good for (default any)")
	fs.StringSliceVar(&g.Sessions, "session", nil, "a session's `name` or key that it is good for; repeatable (default all)")
	fs.StringVar(&expires, "expires", "", "how long it is good for, as 90d or 12h (default for ever)")
	fs.StringVar(&file, "file", "", "the tokens `file` to append its line to")
	jsonFlag(cmd, &asJSON)
	required(cmd, "role")
	return cmd
}

// parseDays reads a duration above 0, with days besides the units of Go.
func parseDays(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if days, ok := strings.CutSuffix(text, "d"); ok {
		var n uint64
		if n, err = strconv.ParseUint(days, 10, 16); err == nil {
			d = time.Duration(n) * 24 * time.Hour
		}
	}
	if err != nil || d <= 0 {
		return 0, errors.New("it must be a duration, as 90d or 12h")
	}
	return d, nil
}

// appendToken adds a line to a tokens file, which is made when there is none. A file with a fault is left as it is.
func appendToken(path, name, line string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, access.MaxFile+1))
	if err != nil {
		return err
	}
	set, err := access.Parse(b)
	if err != nil {
		return hint(fmt.Errorf("%s: %w", path, err), "correct the file first; nothing was added to it")
	}
	if set.HasName(name) {
		return usagef("%s has a token of the name %q already; give this one another with --name", path, name)
	}
	if len(b) > 0 && b[len(b)-1] != '\n' {
		line = "\n" + line
	}
	if _, err := f.WriteString(line + "\n"); err != nil { // at once, so that no peer reads half a line
		return err
	}
	return f.Sync()
}

// tokenInfo is one line of `fedmesh token list --json`.
type tokenInfo struct {
	Name     string      `json:"name"`
	Role     access.Role `json:"role"`
	Combiner string      `json:"combiner,omitempty"`
	Sessions []string    `json:"sessions,omitempty"`
	Expires  *time.Time  `json:"expires,omitempty"`
	Expired  bool        `json:"expired"`
}

func newTokenList(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list FILE",
		Short: "Check a tokens file and show what is in it",
		Long: `Check a tokens file as a peer does, and show whose tokens are in it. To take a token
back, delete its line; the peers see that within seconds.`,
		Example: `  fedmesh token list tokens`,
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			f, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			b, err := io.ReadAll(io.LimitReader(f, access.MaxFile+1))
			if err != nil {
				return err
			}
			set, err := access.Parse(b)
			if err != nil {
				return hint(fmt.Errorf("%s: %w", args[0], err), "correct these lines; until then peers keep to what the file said before")
			}
			infos := []tokenInfo{}
			var text strings.Builder
			for g := range set.Grants() {
				i := tokenInfo{Name: g.Name, Role: g.Role, Combiner: g.Combiner, Sessions: g.Sessions}
				until := "for ever"
				if !g.Expires.IsZero() {
					i.Expires, i.Expired = &g.Expires, !time.Now().Before(g.Expires)
					until = "until " + g.Expires.UTC().Format(time.RFC3339)
					if i.Expired {
						until = "expired " + g.Expires.UTC().Format(time.RFC3339)
					}
				}
				infos = append(infos, i)
				fmt.Fprintf(&text, "%-8s %s, %s", g.Role, g.Name, until)
				if g.Combiner != "" {
					fmt.Fprintf(&text, ", combiner %s", g.Combiner)
				}
				if len(g.Sessions) > 0 {
					fmt.Fprintf(&text, ", sessions %s", strings.Join(g.Sessions, ", "))
				}
				text.WriteString("\n")
			}
			return a.result(asJSON, infos, text.String())
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}
