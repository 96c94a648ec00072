//go:build !linux

package main

import (
	"errors"
	"runtime"
)

func newLAN([]string, uint64) (lan, error) {
	return nil, errors.New("kill: --partition needs Linux's network namespaces; this is " + runtime.GOOS)
}
