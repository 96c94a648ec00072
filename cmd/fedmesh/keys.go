package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fedmesh/fedmesh/mesh/api"
)

func newKeys(a *app) *cobra.Command {
	cmd := group("keys", "Show and exchange the keys that encrypt the gossip",
		newKeysList(a),
		newKeysChange(a, api.KeyInstall, "Have all peers understand a key"),
		newKeysChange(a, api.KeyUse, "Have all peers encrypt with a key"),
		newKeysChange(a, api.KeyRemove, "Have all peers refuse a key"),
	)
	cmd.Long = `Show and exchange the keys that encrypt the gossip, at all peers at once.

To exchange a key without a break: install the new one, use it, remove the old one,
each once the step before has succeeded everywhere. The peer that is asked tells the
others; each writes its --keyring-file first. What would cut a peer off is refused.
A peer that was not reached, because it is down, misses the change: repeat the
command when it is back. If a key is in use meanwhile that it does not have, it
cannot come back until its file is given the key.

Where peers cannot write their files, as mounted secrets, change these instead: first
the new key behind the old one, then before it, then alone, each once all peers have
it (keys list). They read their files again every few seconds.`
	return cmd
}

func newKeysList(a *app) *cobra.Command {
	var (
		client clientFlags
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Show which peers have which keys, by fingerprint",
		Long: `Show which peers have which keys. Keys are named by fingerprints of 16 digits; the
keys themselves are only in the peers' files. An asterisk marks who encrypts with one.`,
		Example: `  fedmesh keys list
  fedmesh keys list --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var ring api.KeyRing
			err := client.call(cmd, func(ctx context.Context, c *api.Client) (err error) {
				ring, err = c.Keys(ctx)
				return err
			})
			if err != nil {
				return keysHint(err)
			}
			return a.result(asJSON, ring, a.keysText(ring))
		},
	}
	client.register(cmd, 2)
	jsonFlag(cmd, &asJSON)
	return cmd
}

func newKeysChange(a *app, operation, short string) *cobra.Command {
	var (
		client clientFlags
		asJSON bool
	)
	use, what := operation+" KEY", "KEY is the key in base64, or - to read it from standard input, where no list of processes shows it."
	if operation != api.KeyInstall {
		what = "KEY is the key's fingerprint, as fedmesh keys list shows it, or the key in base64, or - to read either from standard input."
	}
	cmd := &cobra.Command{
		Use:     use,
		Short:   short,
		Long:    short + ".\n" + wrapped(what) + "\nSee fedmesh keys --help for the order of things.",
		Example: "  fedmesh keys " + operation + " " + map[bool]string{true: "- < newkey", false: "1f2e3d4c5b6a7988"}[operation == api.KeyInstall],
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			key := args[0]
			if key == "-" {
				b, err := io.ReadAll(io.LimitReader(a.in, 1024))
				if err != nil {
					return err
				}
				key = strings.TrimSpace(string(b))
			}
			if key == "" {
				return usagef("no key is given")
			}
			var ring api.KeyRing
			err := client.call(cmd, func(ctx context.Context, c *api.Client) (err error) {
				ring, err = c.ChangeKeys(ctx, api.KeyChange{Operation: operation, Key: key})
				return err
			})
			if err != nil {
				return keysHint(err)
			}
			if err := a.result(asJSON, ring, a.keysText(ring)); err != nil || ring.Complete {
				return err
			}
			return notEverywhere(operation, ring)
		},
	}
	client.register(cmd, 2)
	jsonFlag(cmd, &asJSON)
	return cmd
}

// wrapped breaks a line of help.
func wrapped(s string) string {
	const most = 84
	var out, line string
	for word := range strings.FieldsSeq(s) {
		if len(line)+1+len(word) > most {
			out, line = out+line+"\n", ""
		}
		line = strings.TrimSpace(line + " " + word)
	}
	return out + line
}

func notEverywhere(operation string, ring api.KeyRing) error {
	var left []string
	for _, p := range ring.Peers {
		if p.Result != api.KeyOK {
			left = append(left, p.Name)
		}
	}
	return &remoteError{hint(fmt.Errorf("%s is not done at %s", operation, strings.Join(left, ", ")),
		"see to these peers and run the command again before the next step; what is done stays done")}
}

// keysText is one line for a key and one for each peer that did not do as asked.
func (a *app) keysText(ring api.KeyRing) string {
	var t table
	t.row("KEY", "AT", "PEERS")
	good := 0
	for _, p := range ring.Peers {
		if p.Result == api.KeyOK {
			good++
		}
	}
	for _, k := range ring.Keys {
		primary := map[string]bool{}
		for _, p := range k.Primary {
			primary[p] = true
		}
		var peers []string
		for _, p := range k.Peers {
			if primary[p] {
				p += "*"
			}
			peers = append(peers, p)
		}
		t.row(k.Fingerprint, fmt.Sprintf("%d/%d", len(k.Peers), len(ring.Peers)), strings.Join(peers, " "))
	}
	text := t.render(a.width())
	if good == len(ring.Peers) {
		return text
	}
	var rest table
	for _, p := range ring.Peers {
		if p.Result != api.KeyOK {
			rest.row(p.Name, p.Result, p.Detail)
		}
	}
	return text + "\n" + rest.render(a.width())
}

// keysHint gives the next step to a refusal.
func keysHint(err error) error {
	if _, hinted := errors.AsType[*hintError](err); hinted {
		return err
	}
	switch {
	case api.TypeNotEncrypted.Is(err):
		return hint(err, "fedmesh keygen makes a key; start every peer with it in --keyring-file")
	case api.TypeUnknownKey.Is(err), api.TypePrimaryKey.Is(err), api.TypeKeyMissing.Is(err):
		return hint(err, "fedmesh keys list shows which peers have which keys")
	}
	return err
}
