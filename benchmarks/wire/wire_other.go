//go:build !linux

package wire

import (
	"errors"
	"runtime"
)

// Check says what is missing for a network.
func Check() error {
	return errors.New("wire: counting bytes needs Linux's network namespaces; this is " + runtime.GOOS)
}

// New fails as Check does.
func New([]string, uint64) (Network, error) { return nil, Check() }
