// Package fednpb is the wire of FEDn's function service, generated from
// fedn.proto.
package fednpb

//go:generate go run -C _gen . -dir ..
