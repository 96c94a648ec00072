//go:build !windows

package main

import "os"

// enableSequences has nothing to do: terminals act on escape sequences.
func enableSequences(*os.File) {}
