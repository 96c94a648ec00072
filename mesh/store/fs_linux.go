package store

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// datasync leaves out the times, which fsync would write too.
func datasync(f *os.File) error {
	c, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var sync error
	err = c.Control(func(fd uintptr) {
		for {
			if sync = unix.Fdatasync(int(fd)); !errors.Is(sync, unix.EINTR) {
				return
			}
		}
	})
	return errors.Join(err, sync)
}
