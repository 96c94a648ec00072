package main

import (
	"errors"

	"github.com/spf13/cobra"
)

func newNode(_ *app) *cobra.Command {
	return &cobra.Command{Use: "node", Short: "Run a peer", RunE: func(*cobra.Command, []string) error { return errors.New("not built yet") }}
}
