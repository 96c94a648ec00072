package main

import (
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/fedmesh/fedmesh/mesh/api"
)

// complete gives what a shell would offer for the last word, and cobra's directive.
func complete(t *testing.T, sh shell, args ...string) (words []string, directive string) {
	t.Helper()
	r := sh.run(t, append([]string{"__completeNoDesc"}, args...)...)
	if r.code != exitOK {
		t.Fatalf("%v: exit code %d: %s", args, r.code, r.err)
	}
	all := strings.Split(strings.TrimSpace(r.out), "\n")
	// Flags that must be given are offered with all else.
	words = slices.DeleteFunc(all[:len(all)-1], func(w string) bool { return strings.HasPrefix(w, "--") })
	return words, all[len(all)-1]
}

func TestCompletions(t *testing.T) {
	p, sh := serve(t)
	sh.patient = true
	one := strings.Repeat("1a", 32)
	p.mesh.Peers = append(p.mesh.Peers, api.PeerInfo{Name: "bravo", State: api.PeerDead}, api.PeerInfo{Name: "charlie", State: api.PeerDead}, api.PeerInfo{Name: "delta", State: api.PeerAlive, API: "h:1"})
	p.rounds = []api.RoundInfo{{Round: 1, Model: one, State: api.RoundFinal}, {Round: 2, State: api.RoundOpen}}
	const (
		words   = ":4" // no files
		noSpace = ":6"
		ext     = ":8"
		dirs    = ":16"
	)
	for _, c := range []struct{ line, want, directive string }{
		{"push _", "s", words},
		{"push s _", "npz safetensors", ext},
		{"push s f _", "", words},
		{"pull x_", "", words},
		{"watch _", "s", words},
		{"session show _", "s", words},
		{"rounds s --round _", "2 1", words},
		{"pull s --digest 1_", one, words},
		{"pull s --format _", "npz safetensors", words},
		{"pull s -o _", "npz safetensors", ext},
		{"model inspect a b _", "npz safetensors", ext},
		{"model diff a b _", "", words},
		{"forget _", "bravo charlie", words},
		{"forget bravo _", "charlie", words},
		{"status --peers _", "127.0.0.1:1 h:1", words},
		{"status _", "", words},
		{"session create n --strategy kr_", "krum", words},
		{"session create n --strategy krum --set num_m_", "num_malicious_clients=", noSpace},
		{"session create n --seed _", "npz safetensors", ext},
		{"node --fsync a_", "auto always", words},
		{"node --config _", "yaml yml", ext},
		{"node --data-dir _", "", dirs},
	} {
		args := strings.Fields(c.line)
		args[len(args)-1] = strings.TrimSuffix(args[len(args)-1], "_")
		got, directive := complete(t, sh, args...)
		begun := args[len(args)-1]
		if directive != ext { // the shell looks for itself; else bash and zsh filter, and so does this
			got = slices.DeleteFunc(got, func(w string) bool { return !strings.HasPrefix(w, begun) })
		}
		if strings.Join(got, " ") != c.want || directive != c.directive {
			t.Errorf("%s: %q %s, want %q %s", c.line, got, directive, c.want, c.directive)
		}
	}
	for _, sh := range []string{"bash", "zsh", "fish", "powershell"} {
		if out := (shell{}).ok(t, "completion", sh); !strings.Contains(out, "fedmesh") {
			t.Errorf("%s: %q", sh, out)
		}
	}
}

// TestCompletionDoesNotHang asks peers that take connections and say nothing, and some that are not there.
func TestCompletionDoesNotHang(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for _, peers := range []string{ln.Addr().String(), "127.0.0.1:1", "not a peer"} {
		sh := shell{env: map[string]string{"FEDMESH_PEERS": peers}}
		if got, directive := complete(t, sh, "push", ""); len(got) != 0 || directive != ":4" {
			t.Errorf("%s: %q %s", peers, got, directive)
		}
	}
}
