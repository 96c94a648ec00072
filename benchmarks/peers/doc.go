// Command peers compares a fedmesh peer with the real FEDn and the real Flower.
//
// In every repeat, one after the other and each first in turn: a fedmesh peer
// (a real process, with --fsync never and with --fsync auto) is pushed the
// models by as many combiners at once, timed until a GET answers with their
// mean; FEDn's controller reduces the same arrays from files; Flower's
// aggregate() takes them in memory. FEDn and Flower run their own code, which
// theirs.py calls, from packages that requirements.txt pins; they are put into
// a virtual environment of the command's own.
//
// After that the peer's resident memory is measured with few combiners and with
// many, and with small models and large ones.
//
//	go run ./peers --fedmesh ../bin/fedmesh
//	go run ./peers --fedmesh ../bin/fedmesh --quick --without-python
//
// The table goes to standard output, progress to standard error on a terminal;
// table and picture into the folder --out.
package main
