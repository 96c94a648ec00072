//go:build unix

package main_test

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/meshtest/process"
)

// TestForgetProcess kills one of three real peers for good and has it forgotten by the command: the rounds that waited for it
// become final. When it comes back after all, it takes part again.
func TestForgetProcess(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cluster, binary := startCluster(ctx, t, 3)
	run := func(args ...string) (out string, code int) {
		t.Helper()
		cmd := exec.CommandContext(ctx, binary, append(args, "--peers", strings.Join(cluster.URLs()[:2], ","))...)
		b, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		return string(b), cmd.ProcessState.ExitCode()
	}
	client, err := api.NewClient(cluster.URLs()[:2], api.ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	layout, err := smallLayout()
	if err != nil {
		t.Fatal(err)
	}
	config := api.DefaultSessionConfig()
	config.TargetCombiners = 2
	seed, _ := drawUpdate(1, "nobody", "seed")
	if _, _, err := client.CreateSession(ctx, "s", config, api.Bytes(seed.encode(layout))); err != nil {
		t.Fatal(err)
	}
	pushed, receipts := 0, []api.Receipt(nil)
	round := func() {
		t.Helper()
		pushed++
		for _, combiner := range []string{"x", "y"} {
			u, weight := drawUpdate(1, combiner, fmt.Sprint(pushed))
			r, err := client.Push(ctx, "s", api.PushOptions{Combiner: combiner, ID: fmt.Sprint(pushed), Weight: weight}, api.Bytes(u.encode(layout)))
			if err != nil {
				t.Fatal(err)
			}
			receipts = append(receipts, r)
		}
	}
	rounds := func() []api.RoundInfo {
		t.Helper()
		all, err := client.Rounds(ctx, "s", 1, 100)
		if err != nil {
			t.Fatal(err)
		}
		return slices.DeleteFunc(all, func(r api.RoundInfo) bool { return r.State == api.RoundOpen })
	}
	counted := func(state string) error { // all that was pushed is in rounds of this state
		n := 0
		for _, r := range rounds() {
			if r.State != state {
				return fmt.Errorf("round %d is %s, waiting for %v", r.Round, r.State, r.WaitingFor)
			}
			n += len(r.Updates)
		}
		if n != 2*pushed {
			return fmt.Errorf("%d of %d updates are counted", n, 2*pushed)
		}
		return nil
	}

	if out, code := run("forget", "c"); code != 4 || !strings.Contains(out, "alive") {
		t.Errorf("forgetting the living: exit code %d: %s", code, out)
	}
	if err := cluster.Kill("c"); err != nil {
		t.Fatal(err)
	}
	round()
	eventually(ctx, t, func() error { return counted(api.RoundSettled) })
	eventually(ctx, t, func() error { // gossip takes some seconds to notice
		out, code := run("forget", "c", "--wait", "20s")
		if code != 0 || out != "forgotten: c\n" && !strings.HasSuffix(out, "\nforgotten: c\n") {
			return fmt.Errorf("exit code %d: %s", code, out)
		}
		return nil
	})
	eventually(ctx, t, func() error { return counted(api.RoundFinal) })
	if out, code := run("forget", "c"); code != 0 || out != "forgotten: c\n" {
		t.Errorf("again: exit code %d: %s", code, out)
	}
	if out, _ := run("members"); !strings.Contains(out, "c     forgotten") {
		t.Errorf("members: %s", out)
	}
	round()
	eventually(ctx, t, func() error { return counted(api.RoundFinal) })

	if err := cluster.Restart(ctx, "c"); err != nil {
		t.Fatal(err)
	}
	eventually(ctx, t, func() error {
		info, err := client.Session(ctx, "s")
		if err != nil || len(info.Members) != 3 {
			return fmt.Errorf("members %v, %w", info.Members, err)
		}
		return nil
	})
	round()
	eventually(ctx, t, func() error { return counted(api.RoundFinal) })
	if _, err := client.CloseSession(ctx, "s"); err != nil {
		t.Fatal(err)
	}
	verdict, err := process.Check(ctx, process.CheckOptions{Session: "s", Peers: cluster.Peers(), Receipts: receipts, Timeout: time.Minute})
	if err == nil {
		err = verdict.Err()
	}
	if err != nil {
		t.Error(err)
	}
}

// eventually polls until check returns nil or the context ends.
func eventually(ctx context.Context, t *testing.T, check func() error) {
	t.Helper()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%v: %v", ctx.Err(), err)
		case <-tick.C:
		}
	}
}
