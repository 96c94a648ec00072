// Package store keeps a peer's data directory: an append-only log of records,
// immutable model files named by their digest, and a few small JSON files. What
// it says is durable survives the loss of the process and of power.
//
//	d, err := store.Open(dir, store.Options{Logger: logger})
//	if err != nil { ... }
//	defer d.Close()
//	err = d.Log().Replay(ledger.LoadSnapshot, ledger.Load)
//	pos, err := d.Log().Append(rec)
//	err = d.Log().Sync(ctx, pos) // now it may be shown to others
//	err = d.Log().Snapshot(ctx, pos, ledger.WriteSnapshot) // now the records may go
//
// # Directory
//
//	LOCK                          flock; holds the owner's process number
//	NAME.json                     SaveJSON and LoadJSON
//	blobs/DIGEST.safetensors      immutable, renamed into place when whole
//	log/00000001.log ...          segments, numbered without gaps
//	log/00000042.snapshot         what stands for the records up to number 42
//
// Names that start with ".tmp-" are unfinished files; Open removes them.
//
// # Durability
//
// [Auto], the default, fsyncs the log on Sync and a blob when its Commit asks for
// it. [Always] fsyncs every blob as well. [Never] fsyncs nothing: what was written
// survives a kill of the process but not a loss of power. A new name is
// durable only once its directory has been fsynced too, which Commit, SaveJSON and
// the start of a segment do.
//
// A failed fsync may have thrown away the very pages it could not write, and the
// next one may then succeed without them. So after a failed fsync the log accepts
// nothing more (ErrFailed) until it is opened again and has read what is there.
//
// # Log format
//
// All integers are little-endian; CRC is CRC-32C (Castagnoli). A segment is a
// header of 32 bytes and then records without padding between them:
//
//	 0  8  magic "fmlog\x00\x00\x01", the last byte being the version
//	 8  8  number of this segment, as in the file's name
//	16  8  number of the first record in it; records count from 1 through all segments
//	24  4  salt, random per segment
//	28  4  CRC of bytes 0 to 27
//
// A record:
//
//	 0  4  n, the length of the payload, 1 to 16 MiB
//	 4  4  CRC of salt (4 bytes), offset of this record in the file (8 bytes), n (4 bytes)
//	 8  4  the same CRC carried on over the payload
//	12  n  payload
//
// Salt and offset make a record valid in one place only: a payload that holds the
// image of a record, or a block that was written to the wrong place, is not taken
// for one. The check of the length alone makes it cheap to look for the next whole
// record after a damaged one.
//
// # Snapshots
//
// A snapshot is a stream of bytes, of any size, that stands for all records up to one number.
// What is in it is its owner's business. The file is a header of 32 bytes, chunks and an end
// marker:
//
//	 0  8  magic "fmsnap\x00\x01", the last byte being the version
//	 8  8  number of the last record that it stands for, as in the file's name
//	16  8  size of the file
//	24  4  salt, random per snapshot
//	28  4  CRC of bytes 0 to 27
//
// A chunk has the format of a record, with a payload of 1 byte to 1 MiB, and as many bytes are
// in memory at a time. The end marker is a chunk without payload. The header is written last.
//
// A snapshot is written to a temporary file and fsynced, the file is renamed, the directory is
// fsynced. Then what it stands for is removed: the snapshot before it, and, oldest first, each
// segment whose records it all stands for. As the log begins a new segment before a snapshot is
// written, all segments up to then can go if nothing has been appended behind the snapshot's
// last record yet; else the last of them stays until the next snapshot. Records that a snapshot
// stands for are durable before it is, so the log always reaches up to it.
//
// # After a crash
//
// A segment is fsynced before the next one starts, and files only ever grow at
// their end, so an interrupted write can damage just the end of the last segment.
// Replay cuts such a tail off, fsyncs and logs it. It takes damage for a torn tail
// only if no whole record follows anywhere behind it. All else (damage with
// records behind it, damage in an earlier segment, a missing segment) is
// corruption: Replay changes nothing, and its error (ErrCorrupt) names file, offset
// and what to do. Damage to the very last record alone cannot be told from a torn
// write and is cut.
//
// The last snapshot counts. Replay goes on with the last segment that starts no later than
// right behind it, and passes over the records in that one which the snapshot stands for. What
// comes before is left over from removals that a crash has cut short; they may reach the disk
// in any order, so it may have gaps. Replay removes the rest of it, once all that is kept is
// durable. A missing segment from there on is corruption, and so is a snapshot that is damaged,
// even if segments it stands for are still there: it was whole when it got its name. With
// [Never] the log may after a loss of power end before its snapshot does; Replay logs it and
// goes on behind the snapshot.
//
// A segment is never changed once the next one exists, and record numbers carry
// on through all segments, so the oldest are dropped without renumbering.
//
// # Concurrency
//
// All methods of Dir, Log and Blobs may be called from many goroutines, except
// that Replay must have returned before the first Append. A Snapshot runs in its
// caller's goroutine, one at a time, and holds up neither Append nor Sync; Close breaks it off and
// waits for it. A Writer's WriteAt and ReadAt
// may run together on ranges that do not overlap; its Write, and a Blob's Read and
// Seek, share one offset and belong to one goroutine. The log's one goroutine, for
// an fsync under way, is waited for by Close.
package store
