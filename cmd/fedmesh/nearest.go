package main

import (
	"strings"
	"unicode"
)

// didYouMean names the known name that is nearest to one that is not, or nothing when none is near.
func didYouMean(name string, known []string) string {
	best, least := "", max(2, len(name)/3)+1
	folded := fold(name)
	for _, k := range known {
		if d := distance(folded, fold(k)); d < least {
			best, least = k, d
		}
	}
	if best == "" {
		return ""
	}
	return "; did you mean " + best + "?"
}

func fold(s string) string {
	const longest = 64 // what is compared costs the square of it
	if len(s) > longest {
		s = s[:longest]
	}
	return strings.ToLower(strings.ReplaceAll(s, "_", "-"))
}

// distance counts the letters to insert, remove or replace (Levenshtein) to make one text of another.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}

// printable replaces what a terminal would act on.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}
