//go:build !linux

package proc

import "errors"

// UsageOf needs Linux's /proc: elsewhere it fails with errors.ErrUnsupported.
func UsageOf(string) (Usage, error) { return Usage{}, errors.ErrUnsupported }

// UsageIn needs Linux's /proc: elsewhere it fails with errors.ErrUnsupported.
func UsageIn(string) (Usage, error) { return Usage{}, errors.ErrUnsupported }

// TrafficOf needs Linux's /proc: elsewhere it fails with errors.ErrUnsupported.
func TrafficOf(string, string) (Traffic, error) { return Traffic{}, errors.ErrUnsupported }

// Machine knows nothing here.
func Machine() (cpu, load string) { return "", "" }

// StateIn needs Linux's /proc: elsewhere it fails with errors.ErrUnsupported.
func StateIn(string) (State, error) { return State{}, errors.ErrUnsupported }
