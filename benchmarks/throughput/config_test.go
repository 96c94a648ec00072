package main

import (
	"io"
	"slices"
	"strings"
	"testing"
)

func TestConfig(t *testing.T) {
	c, err := parse(nil, io.Discard)
	if err != nil || c.params != 25_000_000 || c.combiners != 8 || !slices.Equal(c.peers, []int{1, 3}) || c.out != "results" {
		t.Errorf("defaults: %+v, %v", c, err)
	}
	if c, err := parse([]string{"--peers", "5", "--repeat", "1", "--max-memory", "400"}, io.Discard); err != nil || !slices.Equal(c.peers, []int{5}) {
		t.Errorf("%+v, %v", c, err)
	}
	_, err = parse([]string{"--peers", "1,x,27", "--repeat", "0", "--params", "-1", "--combiners", "0", "--fsync", "perhaps"}, io.Discard)
	if err == nil {
		t.Fatal("nonsense was accepted")
	}
	for _, want := range []string{`"x"`, `"27"`, "--repeat", "--params", "--combiners", "--fsync"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%s is not named in %v", want, err)
		}
	}
	if _, err := parse([]string{"extra"}, io.Discard); err == nil {
		t.Error("an argument was ignored")
	}
}
