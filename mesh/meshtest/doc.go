// Package meshtest holds what tests of a mesh share. Network is a network in
// memory: datagrams and streams between named hosts, with partitions, hosts
// that go down, loss, duplication and delay.
//
// # Use in a synctest bubble
//
// Everything waits on channels and timers only, so inside testing/synctest
// minutes of simulated time pass in milliseconds. Make the Network, and all
// that uses it, inside the bubble. Time stops when the bubble's main goroutine
// returns: close what was opened, then Close the Network, and sleep a little so
// that the libraries above can end their goroutines.
//
//	synctest.Test(t, func(t *testing.T) {
//		n := meshtest.NewNetwork(1)
//		defer n.Close()
//		ln, _ := n.Listen("a:8080")
//		go http.Serve(ln, handler)
//		n.Partition([]string{"a"}, []string{"b"})
//		_, err := n.HTTPClient("b").Get("http://a:8080/") // waits, then times out
//		n.Heal()
//	})
//
// # Names and addresses
//
// A host exists from the first time its name is mentioned, and then has an
// address 10.x.y.z for good, given in order. Both "a:80" and "10.0.0.1:80" can
// be dialled. Memberlist transports all listen on GossipPort. Starting a new
// Transport or, after the first is closed, a new Listener for the same name
// plays a process that restarts on its host.
//
// # What a partition does
//
// A cut drops datagrams in its direction. A stream needs both directions, so a
// cut in either stalls it: what was written arrives after the cut heals, writes
// block once 256 KiB wait, reads block, and a new dial keeps trying; all of them
// end early at their deadline. When the stall has lasted longer than
// SetStall says (30 s unless set) the stream is reset on both sides, idle or not, and the
// dial times out. A host that is down behaves like one cut from all others; its
// process keeps running and sees the same from its side. Dialling a host that is
// reachable but does not listen is refused at once.
//
// # Seeds
//
// Chance comes from one seeded source. Goroutines that run at the same simulated
// instant still take their turns in any order, so a seed fixes the odds, not the
// course of a run.
//
// # Concurrency
//
// All methods may be called from any goroutine.
package meshtest
