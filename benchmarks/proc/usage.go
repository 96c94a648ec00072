package proc

// Usage is what processes have used. Those of several are added up, but for the
// peak, which is the largest of any.
type Usage struct {
	CPU     float64 `json:"cpu_seconds"`
	Peak    int64   `json:"peak_bytes"`    // resident memory, VmHWM
	Written int64   `json:"written_bytes"` // to sockets and files, wchar
	Stored  int64   `json:"stored_bytes"`  // to files, write_bytes
}

// Add adds what another process, or another start of one, has used.
func (u *Usage) Add(v Usage) {
	u.CPU += v.CPU
	u.Written += v.Written
	u.Stored += v.Stored
	u.Peak = max(u.Peak, v.Peak)
}

// Sent is what went to sockets: what was written and is not in files, of which
// the last page counts as whole.
func (u Usage) Sent() int64 { return max(0, u.Written-u.Stored) }

// Traffic is what went through a network interface, in bytes, the packets'
// headers among it.
type Traffic struct {
	Received int64 `json:"received_bytes"`
	Sent     int64 `json:"sent_bytes"`
}

// State is what a process holds at one moment.
type State struct {
	Resident int64 `json:"resident_bytes"`
	Files    int   `json:"files"`   // descriptors, sockets among them
	Sockets  int   `json:"sockets"` // of all kinds
}
