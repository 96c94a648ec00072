package main

import (
	"os"

	"golang.org/x/sys/windows"
)

// enableSequences has the console act on escape sequences, which older ones do only when asked.
func enableSequences(out *os.File) {
	var mode uint32
	h := windows.Handle(out.Fd())
	if windows.GetConsoleMode(h, &mode) == nil {
		_ = windows.SetConsoleMode(h, mode|windows.ENABLE_VIRTUAL_TERMINAL_PROCESSING) // it shows
	}
}
