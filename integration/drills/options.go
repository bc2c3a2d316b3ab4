package drills

import (
	"io"
	"log/slog"
)

// Options say what a World consists of.
type Options struct {
	Director, RealServer string // paths of the programs
	Dir                  string // for files; "": one is made, and removed by Close

	Directors   int // default 3, at least 2
	Sites       int // each a tunnel; default 8
	RealServers int // default 4, at least 2

	Log    io.Writer    // what the programs write; several write at once; nil: nowhere
	Logger *slog.Logger // default: none
}
