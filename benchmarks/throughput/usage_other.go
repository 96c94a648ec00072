//go:build !linux

package main

import "errors"

// usage is what a process has taken so far.
type usage struct {
	peak int64   // resident memory at most, bytes
	cpu  float64 // processor time, seconds
}

// errNoUsage: where there is no /proc, the columns stay empty.
var errNoUsage = errors.ErrUnsupported

func usageOf(string) (usage, error) { return usage{}, errNoUsage }

func machine() (cpu, load string) { return "", "" }
