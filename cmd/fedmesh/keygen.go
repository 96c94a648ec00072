package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/fedmesh/fedmesh/mesh/gossip"
)

func newKeygen(a *app) *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "keygen",
		Short: "Make a key that encrypts the gossip",
		Long: `Make a random key of 32 bytes and print it in base64. A file with this one line,
the same at all peers and readable by nobody else, is what fedmesh node
--keyring-file wants.`,
		Example: `  fedmesh keygen --out keyring
  fedmesh keygen | fedmesh keys install -`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			key := gossip.NewKey()
			if out == "" {
				_, err := fmt.Fprintln(a.out, key.Text())
				return err
			}
			f, err := os.OpenFile(out, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
			if err != nil {
				return hint(err, "name a file that is not there yet")
			}
			_, err = fmt.Fprintln(f, key.Text())
			if cerr := f.Close(); err == nil {
				err = cerr
			}
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(a.out, "%s holds the key %s\n", out, key.Fingerprint())
			return err
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "new `file` for the key, readable by its owner only, instead of standard output")
	return cmd
}
