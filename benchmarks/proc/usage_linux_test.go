package proc

import "testing"

func TestParse(t *testing.T) {
	const status, stat, io = "Name:\tx\nVmPeak:\t 9 kB\nVmHWM:\t  123456 kB\n", "12 (a) b) S 1 2 3 4 5 6 7 8 9 10 150 250 0 0", "rchar: 1\nwchar: 500\nwrite_bytes: 200\n"
	u, err := parseUsage(status, stat, io)
	if err != nil || u != (Usage{CPU: 4, Peak: 123456 << 10, Written: 500, Stored: 200}) || u.Sent() != 300 {
		t.Errorf("%+v, %v", u, err)
	}
	for _, bad := range [][3]string{{"", stat, io}, {status, "1 (a) S 1", io}, {status, stat, "wchar: x\nwrite_bytes: 1\n"}} {
		if _, err := parseUsage(bad[0], bad[1], bad[2]); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	const dev = "Inter-|   Receive\n face |bytes\n    lo: 1 0 0 0 0 0 0 0 2 0\n mesh0: 345 7 0 0 0 0 0 0 678 9 0 0 0 0 0 0\n"
	if got, err := parseTraffic(dev, "mesh0"); err != nil || got != (Traffic{Received: 345, Sent: 678}) {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := parseTraffic(dev, "eth0"); err == nil {
		t.Error("an interface that is not there was read")
	}
}
