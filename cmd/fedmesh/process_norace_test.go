//go:build !race

package main_test

func buildArgs() []string { return nil }
