package model

import "errors"

// Errors of this package and its subpackages wrap one of these; the message says
// which tensor is concerned and what is wrong with it.
var (
	// ErrFormat: the bytes are not a model in a supported format, or are damaged.
	ErrFormat = errors.New("unreadable model")
	// ErrLayout: a readable model whose tensors are not those that were asked for.
	ErrLayout = errors.New("wrong layout")
	// ErrTooLarge: a size is beyond a limit, or more bytes come than were declared.
	ErrTooLarge = errors.New("model too large")
)
