package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// Real peers, real sockets: averages, a robust strategy and one with server state
// one after the other, in peace and under attack.
func TestCompareOnAMesh(t *testing.T) {
	dir := t.TempDir()
	c, err := parse([]string{
		"--strategies", "fedavg,multikrum,fedavgm", "--set", "server_momentum=0.5", "--attack", attackSignFlip,
		"--clients", "1", "--rounds", "4", "--seed", strconv.FormatUint(*seed, 10), "--svg", filepath.Join(dir, "out.svg"),
	}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	c.Shape.Hidden = 32
	if c.Fedmesh, err = build(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	got, err := compare(t.Context(), c, loadHead(t, c, 9000), dir, newLive(&log, c.Combiners))
	if err != nil {
		t.Fatalf("%v\n%s", err, log.String())
	}
	t.Logf("seed %d:\n%s", *seed, log.String())
	var b bytes.Buffer
	if err := got.write(&b); err != nil || !got.OK || !strings.Contains(b.String(), "360 updates acknowledged, 360 counted") {
		t.Errorf("%v\n%s", err, b.String())
	}
	pairs := got.pairs()
	if len(pairs) != 3 {
		t.Fatalf("%d strategies", len(pairs))
	}
	average, robust := pairs[0], pairs[1]
	if average.peace.Accuracy < 0.8 || average.attacked.Accuracy >= 0.5 {
		t.Errorf("seed %d: averaging: accuracy %.4f in peace, %.4f under attack", *seed, average.peace.Accuracy, average.attacked.Accuracy)
	}
	if a := robust.attacked.Accuracy; a < average.peace.Accuracy-0.02 {
		t.Errorf("seed %d: multi-Krum under attack: accuracy %.4f, averaging in peace %.4f", *seed, a, average.peace.Accuracy)
	}
	if average.peace.Model == pairs[2].peace.Model {
		t.Error("momentum changed nothing")
	}
	svg, err := os.ReadFile(c.SVG)
	if err != nil {
		t.Fatal(err)
	}
	checkPicture(t, svg, 6)
}

// checkPicture asserts that a picture is well-formed XML with so many curves, and
// that all of them are inside.
func checkPicture(t *testing.T, svg []byte, curves int) {
	t.Helper()
	d, found := xml.NewDecoder(bytes.NewReader(svg)), 0
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, svg)
		}
		e, ok := token.(xml.StartElement)
		if !ok || e.Name.Local != "path" {
			continue
		}
		for _, a := range e.Attr {
			if a.Name.Local != "d" || !strings.Contains(a.Value, "L") {
				continue
			}
			found++
			for point := range strings.SplitSeq(strings.TrimPrefix(a.Value, "M"), "L") {
				var x, y float64
				if _, err := fmt.Sscanf(point, "%f %f", &x, &y); err != nil || x < panelLeft || y < panelTop || y > panelTop+panelHeight {
					t.Errorf("a curve goes through %q", point)
				}
			}
		}
	}
	if found != curves {
		t.Errorf("%d curves, want %d", found, curves)
	}
}

func TestPicture(t *testing.T) {
	one := func(strategy, kind string, accuracies ...float64) Result {
		r := Result{trial: trial{Strategy: strategy, Attack: kind}}
		for i, a := range accuracies {
			r.Rounds = append(r.Rounds, Round{Round: uint64(i + 1), Accuracy: a})
		}
		return r
	}
	c := Comparison{Seed: 3, Peers: 3, Combiners: 15, Attack: attackScale, Attackers: 3, Scale: 10}
	for i := range 12 {
		c.Trials = append(c.Trials, one(fmt.Sprint("s<", i), attackNone, 0, 0.5, 1))
	}
	checkPicture(t, c.picture().render(), 12)
	for i := range 12 {
		c.Trials = append(c.Trials, one(fmt.Sprint("s<", i), attackScale, 0.9, float64(i)/12, float64(i)/12))
	}
	svg := c.picture().render()
	checkPicture(t, svg, 24)
	// The best under attack is first in the key.
	text := string(svg)
	if best, worst := strings.LastIndex(text, ">s&lt;11<"), strings.LastIndex(text, ">s&lt;0<"); best < 0 || best > worst {
		t.Errorf("the key is not sorted:\n%s", text)
	}
	// The axis: more accurate is higher, and what is beyond its ends is at them.
	if height(0) != panelTop+panelHeight || height(0.98) != panelTop || height(1) != panelTop || !(height(0.9) < height(0.8)) {
		t.Errorf("heights %v %v %v", height(0), height(0.98), height(1))
	}
}
