package proc

import (
	"net"
	"testing"
)

func TestStateIn(t *testing.T) {
	before, err := StateIn("/proc/self")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	after, err := StateIn("/proc/self")
	if err != nil {
		t.Fatal(err)
	}
	if before.Resident < 1<<20 || after.Sockets != before.Sockets+1 || after.Files <= before.Files {
		t.Errorf("%+v, then %+v", before, after)
	}
	if _, err := StateIn("/proc/self/nowhere"); err == nil {
		t.Error("the state of nobody")
	}
}
