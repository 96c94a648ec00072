// Package upload keeps bodies that outlive the connections they come over.
//
// What is to be done with a body is done once, by a goroutine of the upload's own that reads it from the first byte to the last. It reads from
// the connection that brings the body at the time, with no copy between; when that breaks, the goroutine waits for the next one. So
// nothing is written twice, and the offset at which a client goes on is simply what was read.
//
//	set := upload.New(func(name string, req api.PushRequest) upload.Work { … }, upload.Options{})
//	u, err := set.Create(ctx, req, "")          // Work.Take runs, and waits for the first byte
//	u, err = set.Write(ctx, u.Name, 0, body, n) // it reads; the connection breaks at some point
//	u, err = set.Upload(ctx, u.Name)            // u.Offset is where to go on
//	u, err = set.Write(ctx, u.Name, u.Offset, rest, n-u.Offset)
//	r, err := set.Receipt(ctx, u.Name)
//	set.Close()
//
// # Names
//
// A name is 128 random bits, and the same at every peer that the body is streamed to. It is not made of the update's key: under one
// key a combiner may, after a crash, come with other bytes, and must not go on where it had stopped with the first.
//
// # One connection at a time
//
// Who asks how far an upload is wants to go on with it. A connection that still brings it, perhaps half open, is cut off once nothing
// moves on it for a moment (50 ms, at the longest 1 s, in which what is on its way arrives). Who writes from exactly
// where the upload stands takes over too; who writes from anywhere else is refused and disturbs nobody.
//
// # What it may cost
//
// At most Options.Most uploads are incomplete at a time; more are refused. One that brings no first byte within a minute, then nothing for ten minutes, or is
// not whole after a day, is ended, and its work let go all it holds. Results, a few hundred bytes each, are remembered for ten minutes, at most
// 1024 of them.
//
// # Concurrency
//
// A Set may be used from many goroutines. It has one goroutine for each upload that is not done, and Close waits for them.
package upload
