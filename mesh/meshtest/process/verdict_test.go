package process_test

import (
	"errors"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/meshtest/process"
)

// good is a session of three rounds with two combiners, the same on all peers.
func good() ([]api.Receipt, []process.View) {
	var receipts []api.Receipt
	var rounds []api.RoundInfo
	for n := uint64(1); n <= 3; n++ {
		r := api.RoundInfo{
			Round: n, State: api.RoundFinal,
			Model: "model" + strconv.Itoa(int(n)), Inputs: "inputs" + strconv.Itoa(int(n)),
			Computed: map[string]string{},
		}
		for _, c := range []string{"x", "y"} {
			id := strconv.Itoa(int(n))
			receipts = append(receipts, api.Receipt{Combiner: c, ID: id, Digest: c + id})
			r.Updates = append(r.Updates, api.UpdateInfo{Combiner: c, ID: id, Digest: c + id})
		}
		for _, p := range []string{"a", "b", "c"} {
			r.Computed[p] = r.Model
		}
		rounds = append(rounds, r)
	}
	var views []process.View
	for _, p := range []string{"c", "a", "b"} {
		own := slices.Clone(rounds)
		for i := range own {
			own[i].Updates = slices.Clone(own[i].Updates)
		}
		views = append(views, process.View{
			Peer: p, Session: api.SessionInfo{State: api.SessionClosed, Round: 3}, Rounds: own,
		})
	}
	return receipts, views
}

func TestJudgeGood(t *testing.T) {
	receipts, views := good()
	v := process.Judge(append(receipts, receipts[2]), views) // a receipt twice is one update
	if err := v.Err(); err != nil {
		t.Fatal(err)
	}
	if v.Acknowledged != 6 || v.Counted != 6 || v.Extra != 0 || v.Rounds != 3 || !v.Agreed {
		t.Errorf("got %+v", v)
	}
	slices.Reverse(receipts)
	slices.Reverse(views)
	if again := process.Judge(receipts, views); !reflect.DeepEqual(v, again) {
		t.Errorf("order matters: %+v and %+v", v, again)
	}
	var table strings.Builder
	if err := v.WriteTable(&table); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"acknowledged      6", "counted           6", "lost              0", "all peers agree   yes"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, table.String())
		}
	}
}

// Each fault, on one peer only, is found and fails the verdict.
func TestJudgeFindsFaults(t *testing.T) {
	key := process.Key{Combiner: "y", ID: "2"}
	for name, c := range map[string]struct {
		spoil func(receipts *[]api.Receipt, v *process.View)
		found func(process.Verdict) bool
		fine  bool // not a fault
	}{
		"lost": {
			spoil: func(_ *[]api.Receipt, v *process.View) { v.Rounds[1].Updates = v.Rounds[1].Updates[:1] },
			found: func(v process.Verdict) bool {
				return slices.Equal(v.Lost, []process.Key{key}) && v.Counted == 5 && v.Agreed
			},
		},
		"waiting in an open round": {
			spoil: func(_ *[]api.Receipt, v *process.View) { v.Rounds[1].State = api.RoundOpen },
			found: func(v process.Verdict) bool { return len(v.Lost) == 2 && !v.Agreed },
		},
		"doubled in two rounds": {
			spoil: func(_ *[]api.Receipt, v *process.View) {
				v.Rounds[2].Updates = append(v.Rounds[2].Updates, v.Rounds[1].Updates[1])
			},
			found: func(v process.Verdict) bool {
				return slices.Equal(v.Doubled, []process.Key{key}) && v.Counted == 5
			},
		},
		"doubled in one round": {
			spoil: func(_ *[]api.Receipt, v *process.View) {
				v.Rounds[1].Updates = append(v.Rounds[1].Updates, v.Rounds[1].Updates[1])
			},
			found: func(v process.Verdict) bool { return slices.Equal(v.Doubled, []process.Key{key}) },
		},
		"altered": {
			spoil: func(_ *[]api.Receipt, v *process.View) { v.Rounds[1].Updates[1].Digest = "other" },
			found: func(v process.Verdict) bool { return slices.Equal(v.Altered, []process.Key{key}) },
		},
		"two receipts": {
			spoil: func(r *[]api.Receipt, _ *process.View) {
				*r = append(*r, api.Receipt{Combiner: "y", ID: "2", Digest: "other"})
			},
			found: func(v process.Verdict) bool { return slices.Equal(v.Altered, []process.Key{key}) },
		},
		"other model": {
			spoil: func(_ *[]api.Receipt, v *process.View) { v.Rounds[1].Model = "other" },
			found: func(v process.Verdict) bool { return len(v.Divergent) == 1 && v.Divergent[0].Round == 2 && !v.Agreed },
		},
		"other inputs": {
			spoil: func(_ *[]api.Receipt, v *process.View) { v.Rounds[1].Inputs = "other" },
			found: func(v process.Verdict) bool { return len(v.Divergent) == 1 && !v.Agreed },
		},
		"not final": {
			spoil: func(_ *[]api.Receipt, v *process.View) { v.Rounds[2].State = api.RoundSettled },
			found: func(v process.Verdict) bool { return len(v.Lost) == 0 && v.Counted == 6 && !v.Agreed },
		},
		"not closed": {
			spoil: func(_ *[]api.Receipt, v *process.View) { v.Session.State = api.SessionClosing },
			found: func(v process.Verdict) bool { return !v.Agreed },
		},
		"fewer rounds": {
			spoil: func(_ *[]api.Receipt, v *process.View) { v.Session.Round, v.Rounds = 2, v.Rounds[:2] },
			found: func(v process.Verdict) bool { return len(v.Lost) == 2 && !v.Agreed },
		},
		"silent": {
			spoil: func(_ *[]api.Receipt, v *process.View) { *v = process.View{Peer: v.Peer, Err: errors.New("refused")} },
			found: func(v process.Verdict) bool { return len(v.Lost) == 0 && v.Counted == 6 && !v.Agreed },
		},
		"unacknowledged": {
			spoil: func(r *[]api.Receipt, _ *process.View) { *r = (*r)[1:] },
			found: func(v process.Verdict) bool { return v.Extra == 1 && v.Acknowledged == 5 && v.Counted == 5 },
			fine:  true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			receipts, views := good()
			c.spoil(&receipts, &views[1])
			v := process.Judge(receipts, views)
			if !c.found(v) {
				t.Errorf("not found in %+v", v)
			}
			if fine := v.Err() == nil; fine != c.fine {
				t.Errorf("verdict: %v", v.Err())
			}
		})
	}
}

func TestJudgeSeesOneDivergentComputation(t *testing.T) {
	receipts, views := good()
	computed := map[string]string{"a": "model2", "b": "other"}
	views[1].Rounds[1].Computed = computed
	v := process.Judge(receipts, views)
	if len(v.Divergent) != 1 || v.Divergent[0].Round != 2 || v.Err() == nil {
		t.Errorf("got %+v", v)
	}
}

func TestJudgeOfNobodyFails(t *testing.T) {
	receipts, _ := good()
	if v := process.Judge(receipts, nil); v.Err() == nil || v.Counted != 0 {
		t.Errorf("got %+v", v)
	}
}
