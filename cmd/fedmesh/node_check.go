package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/fedmesh/fedmesh/mesh/api"
)

// A nodeReport is what `fedmesh node --check --json` prints.
type nodeReport struct {
	OK       bool          `json:"ok"`
	Settings []nodeSetting `json:"settings"` // in effect, by name
	Checked  []string      `json:"checked"`
	Warnings []string      `json:"warnings"`
	Faults   []string      `json:"faults"`
}

// A nodeSetting is one flag with the value in effect.
type nodeSetting struct {
	Name  string `json:"name"`
	Value any    `json:"value"` // text, or a list of texts
	From  string `json:"from"`  // flag, environment, file or default
	Place string `json:"place"` // the flag, the variable, or file:line
}

// hidden stands for a value that must not be shown.
const hidden = "(hidden)"

// checkNode validates all that a peer is told, without running one.
func (a *app) checkNode(cmd *cobra.Command, f *nodeFlags, asJSON bool) error {
	r := nodeReport{Settings: []nodeSetting{}, Checked: []string{"flags", "environment"}, Warnings: []string{}, Faults: []string{}}
	for _, err := range a.settings.faults {
		r.fault(err)
	}
	if path := cmd.Flags().Lookup(configFlag).Value.String(); path != "" {
		r.Checked = append(r.Checked, "file "+path)
	}
	r.fault(f.complete())
	_, err := a.logger(f.logFormat, f.logLevel)
	r.fault(err)
	if r.checkFiles(cmd.Flags()) {
		r.checkContents(f)
	}
	r.checkFolder(f.dataDir)
	r.checkAddresses(cmd.Context(), f)
	if len(r.Faults) == 0 {
		// What is left: the values together.
		cfg, err := f.config(zerolog.Nop(), nil)
		if cfg.API == "" {
			cfg.API = f.listen // as when it runs
		}
		if err == nil {
			err = cfg.Validate()
		}
		r.fault(err)
	}
	r.OK = len(r.Faults) == 0
	r.settingsOf(a.settings)
	if err := a.showCheck(r, asJSON); err != nil {
		return err
	}
	if !r.OK {
		return quietError(exitUsage)
	}
	return nil
}

// fault notes what is wrong; joined errors are so many faults.
func (r *nodeReport) fault(err error) {
	if err == nil {
		return
	}
	if u, ok := errors.AsType[*usageError](err); ok {
		err = u.error
	}
	if many, ok := err.(interface{ Unwrap() []error }); ok { //nolint:errorlint // only what is joined at the top is several faults
		for _, one := range many.Unwrap() {
			r.fault(one)
		}
		return
	}
	r.Faults = append(r.Faults, strings.TrimPrefix(err.Error(), "mesh: "))
}

// checkContents reads what the files hold as the peer does.
func (r *nodeReport) checkContents(f *nodeFlags) {
	_, err := readSecret(f.secretFile)
	r.fault(err)
	if _, err := parseSize(f.maxBody); err == nil { // else said already
		r.fault(f.serverOptions(&api.ServerOptions{Logger: zerolog.Nop()}))
	}
	_, err = f.peerToken(zerolog.Nop())
	r.fault(err)
	r.fault(f.open(f.listen, f.gossip, zerolog.Nop(), prometheus.NewRegistry()))
}

// checkFiles reads every file that a flag names: those whose help calls the value a file. It reports whether all are there.
func (r *nodeReport) checkFiles(flags *pflag.FlagSet) bool {
	before := len(r.Faults)
	flags.VisitAll(func(f *pflag.Flag) {
		kind, _ := pflag.UnquoteUsage(f)
		path := f.Value.String()
		if kind != "file" || path == "" || f.Value.Type() != "string" || f.Name == configFlag {
			return
		}
		r.Checked = append(r.Checked, "file "+path)
		if err := readable(path); err != nil {
			r.fault(fmt.Errorf("--%s: %w", f.Name, err))
		}
	})
	return len(r.Faults) == before
}

// readable reads the first byte of a file.
func readable(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	switch {
	case err != nil:
		return err
	case st.IsDir():
		return fmt.Errorf("%s is a folder, not a file", path)
	}
	var b [1]byte
	if _, err := f.Read(b[:]); errors.Is(err, io.EOF) {
		return fmt.Errorf("%s is empty", path)
	} else if err != nil {
		return err
	}
	return nil
}

// checkFolder sees whether the data directory, or else what it would be made in, can be written to.
func (r *nodeReport) checkFolder(dir string) {
	if dir == "" {
		return
	}
	r.Checked = append(r.Checked, "folder "+dir)
	at := dir
	for {
		st, err := os.Stat(at)
		if err == nil && !st.IsDir() {
			r.fault(fmt.Errorf("--data-dir: %s is no folder", at))
			return
		}
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
			break
		}
		parent := filepath.Dir(at)
		if parent == at {
			break
		}
		at = parent
	}
	f, err := os.CreateTemp(at, ".fedmesh-check-*")
	if err != nil {
		r.fault(fmt.Errorf("--data-dir: %s cannot be written to: %w", at, err))
		return
	}
	f.Close()
	os.Remove(f.Name())
}

// checkAddresses listens on each address for a moment. One that is taken may well be by this very peer, which runs.
func (r *nodeReport) checkAddresses(ctx context.Context, f *nodeFlags) {
	var lc net.ListenConfig
	try := func(flag, network, address string) {
		if _, port, err := net.SplitHostPort(address); err != nil || port == "" {
			return // said already
		}
		r.Checked = append(r.Checked, network+" "+address)
		var c io.Closer
		var err error
		if network == "udp" {
			c, err = lc.ListenPacket(ctx, network, address)
		} else {
			c, err = lc.Listen(ctx, network, address)
		}
		switch {
		case err == nil:
			c.Close()
		case errors.Is(err, syscall.EADDRINUSE):
			r.Warnings = append(r.Warnings, fmt.Sprintf("--%s: %s %s is taken: by this peer, if it is running, else free it or choose another", flag, network, address))
		default:
			r.fault(fmt.Errorf("--%s: %w", flag, err))
		}
	}
	try("listen", "tcp", f.listen)
	try("gossip", "tcp", f.gossip)
	try("gossip", "udp", f.gossip)
}

// settingsOf notes what is in effect, and why.
func (r *nodeReport) settingsOf(s *settings) {
	for _, name := range s.keys() {
		f := s.flags.Lookup(name)
		var v any = f.Value.String()
		if many, ok := f.Value.(pflag.SliceValue); ok {
			v = append([]string{}, many.GetSlice()...)
		}
		if secret(f) && f.Value.String() != "" {
			v = hidden
		}
		o := s.origin(name)
		r.Settings = append(r.Settings, nodeSetting{Name: name, Value: v, From: o.kind, Place: o.place})
	}
}

// showCheck prints the report: what is in effect on standard output, what is wrong on standard error.
func (a *app) showCheck(r nodeReport, asJSON bool) error {
	if asJSON {
		return a.printJSON(r)
	}
	for _, w := range r.Warnings {
		fmt.Fprintln(a.err, "fedmesh: warning:", w)
	}
	if !r.OK {
		fmt.Fprintf(a.err, "fedmesh: %s\n", count(len(r.Faults), "fault"))
		for _, f := range r.Faults {
			fmt.Fprintf(a.err, "  %s\n", strings.ReplaceAll(f, "\n", "\n    "))
		}
		fmt.Fprintln(a.err, "  next: correct what is listed and check again; see fedmesh node --help")
		return nil
	}
	var t table
	t.row("SETTING", "VALUE", "FROM")
	for _, s := range r.Settings {
		text := fmt.Sprint(s.Value)
		if many, ok := s.Value.([]string); ok {
			text = strings.Join(many, ",")
		}
		from := s.From
		if s.Place != "" {
			from = s.Place
		}
		t.row(s.Name, dash(text), from)
	}
	_, err := fmt.Fprintf(a.out, "%s\nno fault found; checked: %s\nnot checked: whether peers to join answer\n", t.render(0), strings.Join(r.Checked, ", "))
	return err
}

// count writes a number of things.
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
