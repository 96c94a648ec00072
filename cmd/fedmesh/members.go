package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/fedmesh/fedmesh/mesh/api"
)

func newMembers(a *app) *cobra.Command {
	var (
		client clientFlags
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "members",
		Short: "List the peers of the mesh",
		Long: `List the peers of the mesh as one of them sees it. LAG is how many entries the
answering peer has that the other is not known to have. LOG begins the id of a
peer's log, by which forget can name it.`,
		Example: `  fedmesh members
  fedmesh members --json | jq -r '.[] | select(.state == "dead") | .name'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var m api.MeshInfo
			err := client.call(cmd, func(ctx context.Context, c *api.Client) (err error) {
				m, err = c.Mesh(ctx)
				return err
			})
			if err != nil {
				return err
			}
			var t table
			t.row("PEER", "STATE", "LAG", "API", "LOG")
			for _, p := range m.Peers {
				t.row(p.Name, stateOf(p), number(p.VectorLag), dash(p.API), short(p.Log))
			}
			return a.result(asJSON, m.Peers, t.render(a.width()))
		},
	}
	client.register(cmd, 2)
	jsonFlag(cmd, &asJSON)
	return cmd
}
