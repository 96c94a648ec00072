package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/fedmesh/fedmesh/mesh/meshtest/process"
)

// carriedRounds is how many rounds each model goes through: the second one's global model is what FEDn's controller makes of the first's.
const carriedRounds = 2

// carriedExamples are those of the two clients.
const carriedExamples = "100,2400"

// dtypeBytes are the dtypes that are tried, as numpy calls them, and how large they are.
var dtypeBytes = map[string]int64{"float16": 2, "float32": 4, "float64": 8, "int64": 8}

// carried is one round of models of one dtype and size.
type carried struct {
	DType    string  `json:"dtype"`
	Params   int     `json:"params"`
	Round    int     `json:"round"`
	Seconds  float64 `json:"seconds"`  // from the first model sent to the last byte of the aggregate
	Resident int64   `json:"resident"` // bytes at most so far, of the gateway
	Returned string  `json:"returned"` // dtype of the aggregate
	Wrong    int     `json:"wrong"`    // values that are not the nearest to the weighted mean
	Own      string  `json:"own"`      // dtype of FEDn's own mean of the same models
	OwnWrong int     `json:"own_wrong"`
	Counted  int     `json:"counted"` // rounds so far that the mesh counted, from a model that it knew
}

// carry sends models of each dtype through a gateway and a mesh of one peer, small ones first.
func (c config) carry(ctx context.Context, python interpreter, say func(string, ...any)) error {
	if c.params < 10 {
		return fmt.Errorf("fedn: --params is %d; give 10 at least", c.params)
	}
	dtypes := strings.Split(c.dtypes, ",")
	for _, d := range dtypes {
		if dtypeBytes[d] == 0 {
			return fmt.Errorf("fedn: --dtype %q; it must be of float16, float32, float64 and int64", d)
		}
	}
	var rows []carried
	for _, d := range dtypes {
		for _, params := range []int{c.params / 10, c.params} {
			s := &scene{config: c, dir: filepath.Join(c.dir, fmt.Sprintf("%s-%d", d, params)), python: python, say: say}
			got, err := s.carry(ctx, d, params)
			if err = errors.Join(err, s.close()); err != nil {
				return err
			}
			rows = append(rows, got...)
			for _, dir := range []string{"data", "peers"} { // they may be large
				if err := os.RemoveAll(filepath.Join(s.dir, dir)); err != nil {
					return fmt.Errorf("fedn: %w", err)
				}
			}
		}
	}
	say("")
	if c.json {
		if err := json.NewEncoder(os.Stdout).Encode(rows); err != nil {
			return err
		}
	} else if err := writeCarried(os.Stdout, rows); err != nil {
		return err
	}
	return judgeCarried(rows)
}

func (s *scene) carry(ctx context.Context, dtype string, params int) ([]carried, error) {
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return nil, fmt.Errorf("fedn: %w", err)
	}
	var err error
	s.cluster, err = process.NewCluster(process.Options{Binary: s.fedmesh, N: 1, Dir: filepath.Join(s.dir, "peers"), Mesh: "fedn", ExtraArgs: []string{"--fsync", "never"}})
	if err != nil {
		return nil, err
	}
	if err := s.cluster.Start(ctx); err != nil {
		return nil, err
	}
	free, err := ports(1)
	if err != nil {
		return nil, err
	}
	listen := net.JoinHostPort("127.0.0.1", strconv.Itoa(free[0]))
	gateway, err := s.start("gateway-one", s.fedmesh, []string{
		"fedn", "--combiner", "one", "--session", session, "--data-dir", filepath.Join(s.dir, "data"), "--peers", s.cluster.URLs()[0], "--listen", listen,
		"--target-combiners", "1", "--log-format", "json",
	})
	if err != nil {
		return nil, err
	}
	s.say("%s, %d parameters ...", dtype, params)
	p, err := s.start("dtypes", s.python.path, []string{
		filepath.Join(s.python.scripts, "dtypes.py"), "--service", listen, "--params", strconv.Itoa(params), "--dtype", dtype,
		"--examples", carriedExamples, "--rounds", strconv.Itoa(carriedRounds),
	})
	if err != nil {
		return nil, err
	}
	var rows []carried
	for r := 1; r <= carriedRounds; r++ {
		e, err := p.await(ctx, "aggregate", func(e event) bool { return e.Event == "aggregated" && e.Round == r })
		if err != nil {
			return nil, fmt.Errorf("%w\n%s", err, gateway.tail())
		}
		row := carried{DType: dtype, Params: params, Round: r, Seconds: e.Seconds, Returned: e.DType, Wrong: e.Wrong, Own: e.OwnDType, OwnWrong: e.OwnWrong}
		if e.Values != params {
			return nil, fmt.Errorf("fedn: %d values came back, not %d", e.Values, params)
		}
		if row.Resident, err = peakOf(gateway.cmd.Process.Pid); err != nil {
			return nil, err
		}
		done, err := s.gatewayRounds(combiner{name: "one"})
		if err != nil {
			return nil, err
		}
		row.Counted = len(done)
		rows = append(rows, row)
	}
	return rows, nil
}

// mostGrowth is how much more memory the gateway may take for a model ten times as large, but for what Go's garbage collector leaves lying.
const mostGrowth = 40e6

// judgeCarried says what is wrong with what came back.
func judgeCarried(rows []carried) error {
	var faults []error
	small := map[string]int64{}
	for _, r := range rows {
		bad := func(format string, args ...any) {
			faults = append(faults, fmt.Errorf("fedn: %s, %d parameters, round %d: %s", r.DType, r.Params, r.Round, fmt.Sprintf(format, args...)))
		}
		small[r.DType] = cmp.Or(small[r.DType], r.Resident)
		if r.Returned != r.DType {
			bad("came back as %s", r.Returned)
		}
		if r.Wrong > 0 {
			bad("%d values are not the weighted mean's", r.Wrong)
		}
		if r.Counted != r.Round {
			bad("the mesh has counted %d rounds", r.Counted)
		}
		if r.Resident > small[r.DType]+mostGrowth {
			bad("the gateway took %d bytes, and %d for the small model", r.Resident, small[r.DType])
		}
	}
	return errors.Join(faults...)
}

func writeCarried(w io.Writer, rows []carried) error {
	fmt.Fprintf(w, "FEDn's own code sends the models of two clients with %s examples through a gateway and a mesh of one peer. The second round's global model is\n"+
		"what FEDn's controller makes of the first's. Beside it FEDn's own mean of the same models.\n\n", strings.ReplaceAll(carriedExamples, ",", " and "))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "dtype\tmodel\tround\tseconds\tgateway at most\treturned\tnot the nearest\tFEDn's own\tnot the nearest")
	for _, r := range rows {
		fmt.Fprintf(t, "%s\t%.0f MB\t%d\t%.1f\t%.0f MB\t%s\t%d\t%s\t%d\n", r.DType, float64(r.Params)*float64(dtypeBytes[r.DType])/1e6, r.Round, r.Seconds,
			float64(r.Resident)/1e6, r.Returned, r.Wrong, r.Own, r.OwnWrong)
	}
	return t.Flush()
}
