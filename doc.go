// Package fedmesh is the root of the module and holds no code: it is where the
// tree is described and where its rules are tested.
//
// Imports run one way:
//
//	model <- aggregate <- mesh <- cmd
//
// What is where:
//
//   - model: tensors, layouts, digests, and the codecs for safetensors and npz.
//   - aggregate: exact weighted sums over models, and the strategies.
//   - mesh: a peer. mesh/ledger says what happened and what follows from it,
//     mesh/store keeps it on disk, mesh/gossip spreads it, mesh/api is what users
//     touch over HTTP, mesh/meshtest is a network in memory and the simulator.
//   - cmd/fedmesh: the command.
//
// model, aggregate and mesh/ledger are pure: no files, no network, no clock, no
// goroutines, no locks, no logging. They may be called from any goroutine as
// long as one value is not used by two at a time, unless a type says otherwise.
// house_test.go in this folder enforces all of that and gives the reasons.
package fedmesh
