package main

import (
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/fedmesh/fedmesh/aggregate"
)

func TestSpoil(t *testing.T) {
	base, honest := []float32{1, 2, 0}, []float32{1.5, 1, 0}
	for _, c := range []struct {
		attack attack
		want   []float32
	}{
		{attack{attackSignFlip, 1}, []float32{0.5, 3, 0}},
		{attack{attackSignFlip, 10}, []float32{-4, 12, 0}},
		{attack{attackScale, 10}, []float32{6, -8, 0}},
		{attack{attackScale, 1e9}, []float32{bound, -bound, 0}},
	} {
		got := slices.Clone(honest)
		c.attack.spoil(got, base, nil)
		if !slices.Equal(got, c.want) {
			t.Errorf("%+v: %v, want %v", c.attack, got, c.want)
		}
	}
}

func TestSpoilAtRandom(t *testing.T) {
	const n, scale = 10_000, 3
	base, honest := make([]float32, n), make([]float32, n)
	for i := range honest {
		honest[i] = 0.5
	}
	got := slices.Clone(honest)
	attack{attackRandom, scale}.spoil(got, base, rand.New(rand.NewPCG(1, 2)))
	var squares, along float64
	for i, x := range got {
		squares += float64(x) * float64(x)
		along += float64(x) * float64(honest[i])
	}
	length := math.Sqrt(squares)
	if want := scale * 0.5 * math.Sqrt(n); math.Abs(length-want) > 0.05*want {
		t.Errorf("a step of length %.1f, want %.1f", length, want)
	}
	if cos := along / length / (0.5 * math.Sqrt(n)); math.Abs(cos) > 0.05 {
		t.Errorf("the step goes along with the honest one: cosine %.3f", cos)
	}
}

func TestWild(t *testing.T) {
	nan := float32(math.NaN())
	for _, bad := range []float32{nan, float32(math.Inf(1)), float32(math.Inf(-1)), bound, -bound} {
		if !wild([]float32{0, bad, 1}) {
			t.Errorf("%v was taken", bad)
		}
	}
	if wild([]float32{0, 1000, -1000}) {
		t.Error("a sound update was refused")
	}
}

func TestTrials(t *testing.T) {
	for _, c := range []struct {
		line string
		want []string
	}{
		{"", []string{"fedavg"}},
		{"--strategy krum", []string{"krum"}},
		{"--strategy krum --attack scale", []string{"krum num_malicious_clients=3, attacked"}},
		{"--strategy krum --attack scale --set num_malicious_clients=1", []string{"krum num_malicious_clients=1, attacked"}},
		{"--strategies fedavg,fedmedian", []string{"fedavg", "fedmedian"}},
		{"--strategies fedadam,fedtrimmedavg --set eta=0.01 --attack random --combiners 10", []string{
			"fedadam eta=0.01", "fedtrimmedavg beta=0.2", "fedadam eta=0.01, attacked", "fedtrimmedavg beta=0.2, attacked",
		}},
	} {
		config, err := parse(strings.Fields(c.line), io.Discard)
		if err != nil {
			t.Fatalf("%s: %v", c.line, err)
		}
		var got []string
		for _, try := range config.trials() {
			got = append(got, try.String())
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.line, got, c.want)
		}
	}
	all, err := parse([]string{"--strategies", "all", "--attack", attackSignFlip}, io.Discard)
	if err != nil || len(all.Strategies) != len(aggregate.Strategies()) || all.Combiners != 15 || all.attackers() != 3 || all.Kill != killNone {
		t.Errorf("%+v, %v", all, err)
	}
	plain, err := parse(nil, io.Discard)
	if err != nil || plain.Combiners != 6 || plain.Peers != 3 || plain.Kill != killMiddle || plain.attackers() != 0 || len(plain.trials()[0].Params) != 0 {
		t.Errorf("%+v, %v", plain, err)
	}
}

func TestWrongTrials(t *testing.T) {
	for line, want := range map[string]string{
		"--strategy krumm":                                      "multikrum",
		"--strategy krum --set f=1":                             "f: krum has no such parameter",
		"--strategy fedavg --set staleness=linear":              "constant or polynomial",
		"--set eta":                                             "key=value",
		"--set a=1 --set a=2":                                   "twice",
		"--strategies fedavg,fedavg":                            "twice",
		"--strategies fedavg --kill middle":                     "--kill",
		"--strategies fedavg --compare":                         "--compare",
		"--svg x.svg":                                           "--strategies",
		"--attack flip":                                         "sign-flip, scale, random",
		"--attack scale --attackers 0":                          "--attackers",
		"--attack scale --attackers NaN":                        "--attackers",
		"--attack scale --attackers 0.2 --combiners 4":          "--attackers",
		"--attack scale --attack-scale -1":                      "--attack-scale",
		"--strategy bulyan --attack scale --combiners 10":       "11 combiners",
		"--strategy krum --set num_malicious_clients=2":         "7 combiners",
		"--strategy fedtrimmedavg --attack scale --attackers 1": "beta",
	} {
		if _, err := parse(strings.Fields(line), io.Discard); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", line, err, want)
		}
	}
}

// Whole updates are cut off, as many as there are attackers.
func TestShareOf(t *testing.T) {
	for all := 1; all <= 400; all++ {
		for n := 1; 2*n < all; n++ {
			if got := int(shareOf(n, all) * float64(all)); got != n {
				t.Fatalf("%v of %d is %d, want %d", shareOf(n, all), all, got, n)
			}
		}
	}
}

func TestSettings(t *testing.T) {
	s := settings{}
	for _, text := range []string{"a=1", "b=x=y", "c="} {
		if err := s.Set(text); err != nil {
			t.Error(err)
		}
	}
	if want := (settings{"a": "1", "b": "x=y", "c": ""}); !maps.Equal(s, want) {
		t.Errorf("%v", s)
	}
}
