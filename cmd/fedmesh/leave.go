package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/fedmesh/fedmesh/mesh/api"
)

func newLeave(a *app) *cobra.Command {
	var (
		client clientFlags
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "leave --peers URL",
		Short: "Make a peer leave the mesh for good",
		Long: `Make one peer leave the mesh for good: it hands over what only it holds and the
others stop waiting for its word. To restart a peer, or to move it, just stop the
process: a restart is not a departure. The last member cannot leave.`,
		Example: `  fedmesh leave --peers http://c:8080`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(client.peers) != 1 {
				return usagef("--peers names %d peers; name the one that is to leave", len(client.peers))
			}
			err := client.call(cmd, func(ctx context.Context, c *api.Client) error { return c.Leave(ctx) })
			if err != nil {
				return err
			}
			return a.result(asJSON, map[string]string{"left": client.peers[0]},
				fmt.Sprintf("%s has left the mesh; its process can be stopped\n", client.peers[0]))
		},
	}
	client.register(cmd, 2)
	jsonFlag(cmd, &asJSON)
	return cmd
}
