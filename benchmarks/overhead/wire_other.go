//go:build !linux

package main

import (
	"errors"
	"runtime"
)

func checkWire() error {
	return errors.New("overhead: --wire " + wireNamespaces + " needs Linux's network namespaces; this is " + runtime.GOOS)
}

func newWire([]string, uint64) (wire, error) { return nil, checkWire() }
