package gossip_test

import (
	"strings"
	"testing"

	"github.com/fedmesh/fedmesh/mesh/gossip"
)

func TestValidate(t *testing.T) {
	good := gossip.DefaultConfig()
	good.Name = "peer-1.example_2"
	good.Join = []string{"10.0.0.1:7946", "peer-2:7946", "[::1]:7946"}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		want   string
		change func(*gossip.Config)
	}{
		{"Mesh", func(c *gossip.Config) { c.Mesh = strings.Repeat("m", 256) }},
		{"Mesh", func(c *gossip.Config) { c.Mesh = "" }},
		{"Name", func(c *gossip.Config) { c.Name = "" }},
		{"Name", func(c *gossip.Config) { c.Name = "a/b" }},
		{"Name", func(c *gossip.Config) { c.Name = strings.Repeat("n", 129) }},
		{"Meta", func(c *gossip.Config) { c.Meta = make([]byte, 513) }},
		{"Bind", func(c *gossip.Config) { c.Bind = "10.0.0.1" }},
		{"set Advertise", func(c *gossip.Config) { c.Bind = "[::]:7946" }},
		{"Advertise", func(c *gossip.Config) { c.Advertise = "0.0.0.0:7946" }},
		{"Advertise", func(c *gossip.Config) { c.Advertise = ":7946" }},
		{"Advertise", func(c *gossip.Config) { c.Advertise = "host:port" }},
		{"Join", func(c *gossip.Config) { c.Join = []string{"host"} }},
		{"Join", func(c *gossip.Config) { c.Join = []string{"host:0"} }},
		{"ProbeTimeout", func(c *gossip.Config) { c.ProbeTimeout = c.ProbeInterval }},
		{"StreamTimeout", func(c *gossip.Config) { c.StreamTimeout = 0 }},
		{"RejoinEvery", func(c *gossip.Config) { c.RejoinEvery = 0 }},
		{"PeerBytes", func(c *gossip.Config) { c.PeerBytes = 0 }},
	} {
		c := good
		tc.change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("error %v does not mention %q", err, tc.want)
		}
		if _, err := gossip.New(c, newRecorder("x")); err == nil {
			t.Errorf("New took what Validate refuses: %v", tc.want)
		}
	}
	err := gossip.Config{}.Validate()
	if n := strings.Count(err.Error(), "\n") + 1; n < 10 {
		t.Errorf("an empty Config has only %d faults: %v", n, err)
	}
	if _, err := gossip.New(good, nil); err == nil {
		t.Error("New took a nil handler")
	}
}
