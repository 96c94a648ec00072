//go:build race

package main_test

// buildArgs has the nodes run under the race detector when the test does.
func buildArgs() []string { return []string{"-race"} }
