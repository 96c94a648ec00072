package main

import (
	"time"

	"github.com/spf13/pflag"

	"github.com/fedmesh/fedmesh/mesh/api"
)

// sessionFlags are what a session is opened with.
type sessionFlags struct {
	cfg                         api.SessionConfig
	roundTimeout, settle, after time.Duration
}

func (f *sessionFlags) register(fs *pflag.FlagSet) {
	f.cfg = api.DefaultSessionConfig()
	fs.StringVar(&f.cfg.Strategy, "strategy", f.cfg.Strategy, "how updates become a model: a `name` that session strategies lists")
	fs.StringToStringVar(&f.cfg.Params, "set", nil, "a parameter of the strategy, `key=value`, see session strategies; repeatable")
	fs.IntVar(&f.cfg.TargetCombiners, "target-combiners", f.cfg.TargetCombiners, "close a round when updates of so many combiners are in; 0: by time only")
	fs.IntVar(&f.cfg.MinCombiners, "min-combiners", f.cfg.MinCombiners, "with fewer combiners a round keeps the model and the updates wait")
	fs.IntVar(&f.cfg.Copies, "copies", f.cfg.Copies, "peers that must hold an update before it is acknowledged")
	fs.DurationVar(&f.roundTimeout, "round-timeout", time.Duration(f.cfg.RoundTimeout), "close a round after this long, once enough combiners are in")
	fs.DurationVar(&f.settle, "settle-timeout", time.Duration(f.cfg.SettleTimeout), "how long to wait for the other peers' word on a round")
	fs.DurationVar(&f.after, "lost-after", time.Duration(f.cfg.LostAfter), "an update that no peer can deliver for so long is lost")
}

// config returns what the flags say, or all that is wrong with it.
func (f *sessionFlags) config() (api.SessionConfig, error) {
	f.cfg.RoundTimeout, f.cfg.SettleTimeout, f.cfg.LostAfter = api.Duration(f.roundTimeout), api.Duration(f.settle), api.Duration(f.after)
	return f.cfg, checkConfig(f.cfg)
}
