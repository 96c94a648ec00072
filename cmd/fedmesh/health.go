package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fedmesh/fedmesh/mesh/api"
)

func newHealth(a *app) *cobra.Command {
	var (
		ready, asJSON bool
		timeout       time.Duration
	)
	cmd := &cobra.Command{
		Use:   "health [URL]",
		Short: "Say whether a peer runs, for health checks of containers",
		Long: `Ask one peer, by default http://127.0.0.1:8080, whether it runs, or with --ready
whether it takes updates. The exit code is 0 when it does and 5 when it does not.
It needs no token. A certificate is not verified: only the status is looked at.`,
		Example: `  fedmesh health
  fedmesh health http://127.0.0.1:8081 --ready`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			target := "http://127.0.0.1:8080"
			if len(args) > 0 {
				target = args[0]
			}
			u, err := url.Parse(target)
			if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
				return usagef("%q is no URL of a peer; it must be like https://127.0.0.1:8080", target)
			}
			path := "/healthz"
			if ready {
				path = "/readyz"
			}
			client := &http.Client{Timeout: timeout, Transport: &http.Transport{
				DisableKeepAlives: true,
				TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // nothing secret is sent, and nothing that is read is trusted
			}}
			req, err := http.NewRequestWithContext(cmd.Context(), http.MethodGet, strings.TrimSuffix(u.String(), "/")+path, nil)
			if err != nil {
				return &usageError{err}
			}
			resp, err := client.Do(req)
			if err != nil {
				return api.Unavailable(err.Error(), 0)
			}
			defer resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				b, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
				return api.Unavailable(fmt.Sprintf("%s answers %s: %s", req.URL, resp.Status, strings.TrimSpace(string(b))), 0)
			}
			return a.result(asJSON, map[string]string{"status": "ok"}, "ok\n")
		},
	}
	cmd.Flags().BoolVar(&ready, "ready", false, "ask whether it takes updates, not only whether it runs")
	cmd.Flags().DurationVar(&timeout, "timeout", 4*time.Second, "give up after this long")
	jsonFlag(cmd, &asJSON)
	return cmd
}
