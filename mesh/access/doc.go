// Package access says who may do what: tokens with roles, matched without I/O, and beside that the files they are read from.
//
// A token is 256 random bits as text, "fedmesh_" and 43 characters. Peers keep no token, only its SHA-256, in a tokens file, one JSON object a line:
//
//	# who pushes
//	{"name":"hospital-1","role":"combiner","combiner":"c1","sessions":["digits"],"expires":"2027-02-22T00:00:00Z","sha256":"5d41…"}
//	{"name":"dashboard","role":"reader","sha256":"9a0b…"}
//
// Empty lines and lines that begin with # are skipped. Name, role and sha256 must be there; a name, which is for the log, and a hash stand once in a file. Combiner
// and sessions bind a combiner's token to one combiner's name and to sessions, by name or by key; expires is the moment from which it is refused.
// A member that is not known is a fault: a misspelt "sessions" would give away all of them. An empty file lets nobody in.
//
// # Roles
//
//	combiner  pushes updates, and reads the sessions that it pushes to: state, rounds, models
//	reader    reads everything: sessions, models, the mesh, events, metrics, the dashboard; changes nothing
//	operator  does all that users can: opens and closes sessions, pushes, reads, forgets peers, has one leave, changes keys
//	peer      is another peer of the mesh; may use the peer plane and nothing else
//
// # Why SHA-256 and not bcrypt
//
// Slow hashes make up for passwords, which can be guessed. These tokens cannot: trying 2^256 of them takes as long with any hash. A slow one would only
// let whoever sends wrong tokens keep the processor busy. Texts of another form than ours are refused, so that nobody puts the hash of a password here.
// A token is looked for among all hashes, each compared in constant time.
//
// # Files
//
// Open reads a tokens file, and its Tokens reads it again when it has changed, which it looks for at most once a second. A file that cannot be read or has a
// fault changes nothing: what was valid stays so, and the log names line and fault, once. OpenSecret does the same for the file with the one token that a peer shows to others.
//
// All types may be used from many goroutines. There are no goroutines here.
package access
