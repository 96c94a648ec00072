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

// StartSync promises nothing, so its errors do not matter: Sync has the last word.
func (o osFile) StartSync() {
	c, err := o.f.SyscallConn()
	if err != nil {
		return
	}
	_ = c.Control(func(fd uintptr) { _ = unix.SyncFileRange(int(fd), 0, 0, unix.SYNC_FILE_RANGE_WRITE) })
}
