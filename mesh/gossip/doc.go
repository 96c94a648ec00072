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
//	packet    malformed  came in, and no member sends such
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
// Nothing is encrypted or authenticated; Config.Mesh keeps accidents apart, not
// attackers. Sizes, counts and rates are bounded whoever sends. Use a network
// that only members reach.
//
// # Wire format
//
// A message is memberlist's user message with one byte before it: 1 a message of
// the Handler's, 2 the name of a member that leaves, 3 eight random bytes and
// another of these, which whoever sees those bytes for the first time passes on.
// Others are ignored. States are carried as they are.
package gossip
