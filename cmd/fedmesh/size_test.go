package main

import "testing"

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{
		"": 0, "0": 0, "1000": 1000, "7B": 7, "2KB": 2000, "2KiB": 2048, "1.5 MB": 1_500_000, "20GB": 20e9, "1TiB": 1 << 40, "3MiB": 3 << 20,
	} {
		if got, err := parseSize(text); err != nil || got != want {
			t.Errorf("%q: %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"GB", "-1", "x", "1XB", "1e30", "NaN", "Inf", "1 2"} {
		if got, err := parseSize(text); err == nil {
			t.Errorf("%q: %d", text, got)
		}
	}
}
