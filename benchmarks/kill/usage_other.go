//go:build !linux

package main

import "errors"

// usageOf: where there is no /proc, the figures stay empty.
func usageOf(string) (Usage, error) { return Usage{}, errors.ErrUnsupported }

func machine() (cpu, load string) { return "", "" }
