// Package gossip finds the members of a mesh, notices those that fail, and
// carries messages and states between them. It knows nothing of what it carries.
// It adapts hashicorp/memberlist and steps around its traps.
//
//	cfg := gossip.DefaultConfig()
//	cfg.Name = "peer-1"
//	cfg.Join = []string{"10.0.0.2:7946"}
//	g, err := gossip.New(cfg, handler)
//	if err != nil { ... }
//	if err := g.Start(ctx); err != nil { ... }
//	g.Broadcast([]byte("hello"))
//	...
//	err = g.Leave(5 * time.Second) // or Close
//
// # What arrives
//
// Messages arrive late, twice, out of order or not at all. What must arrive is
// made up for by the states, which members exchange in pairs when one joins and
// every PushPullInterval: a state says what its member has, so that the other can
// ask for what it lacks.
//
// # Concurrency
//
// The Handler's Message, RemoteState and Changed, and Config.Conflict, run on one
// goroutine. Nothing here makes memberlist wait: what comes in and what goes out
// passes bounded queues, and what exceeds them is dropped and counted in
// fedmesh_gossip_dropped_total:
//
//	queue     reason
//	inbound   full       Handler too slow
//	datagram  full, gone, failed
//	stream    full       peer too slow; also gone, failed, closed; malformed came in
//	packet    malformed  came in, and no member sends such; of streams too
//	          plain, encrypted, unauthentic, replayed: see Trust; of streams too
//	gossip    full       this member is alone, or broadcasts too much
//	send      too_large, gone, closed: refused at once
//	state     too_large  LocalState beyond MaxMessage
//
// # How members are found, and found again
//
// A member looks for others among Join, the members that died, and LoadPeers, of
// which it tries a few at a time: at once, then soon, then every RejoinEvery, for
// ever. Memberlist by itself talks only to those it takes for alive, so without
// this the two halves of a split mesh never meet again. Members that left are not
// looked for, unless Join names them.
//
// Those that died within the last ten minutes are pinged every second besides, all
// of them, and once more when one of them is back: a cut ends for all at once.
// Greet is for who has heard of a member by other means.
//
// A member that restarts keeps its name. At its old address it is taken back at
// once; at a new one, once the others have taken its former self for dead for 30
// seconds, or at once if it left. Until then they report a conflict of names.
//
// # What memberlist does not tell
//
// It does not show suspicion: a suspect is Alive until it is Dead. It does not say
// whether a member died or left: members that leave say so in a message of this
// package's, and one whose word got lost is reported Dead.
//
// # Trust
//
// Without Config.Keyring nothing is encrypted or authenticated; Config.Mesh keeps
// accidents apart, not attackers. Sizes, counts and rates are bounded whoever
// sends. Use a network that only members reach.
//
// With a Keyring each packet and stream is encrypted with AES-GCM, in memberlist's
// format, and what no key of the ring has encrypted is dropped before anything
// decodes it. A message that arrives a second time is dropped too, as long as no
// more than 65,536 others came in between and the member has not restarted;
// beyond that it counts as a duplicate, which members must bear anyway. What one
// member was sent, another may be sent. All keys are worth the same and so are
// all who have one: a member cannot be told from another by its key. The mesh's
// name, who talks to whom, when and how much stays visible.
//
// Keys are exchanged without a break in three steps, each at all members before
// the next: Install the new one, Use it, Remove the old one. Whoever writes the
// keyring's file can do the same, with Reload. Members with keys,
// without, and with others do not merge, and their logs say why.
//
// # Wire format
//
// A message is memberlist's user message with one byte before it: 1 a message of
// the Handler's, 2 the name of a member that leaves, 3 eight random bytes and
// another of these, which whoever sees those bytes for the first time passes on.
// Others are ignored. States are carried as they are. Around that, with keys, come
// memberlist's version 1 of encryption and the label, which is authenticated.
package gossip
