package gossip

// NewLineWriter is what takes memberlist's lines.
var NewLineWriter = newLineWriter
