package fault

import "path/filepath"

// A Ballast fills the file system of a directory with a file. It is made only where the directory is a file system of its own: a mount
// point with nothing else on it, so that nobody else runs out of room.
type Ballast struct {
	Dir  string `json:"dir"`  // absolute
	Rest int64  `json:"rest"` // bytes that stay free, about
}

// Name is an Effect's.
func (*Ballast) Name() string { return "ballast" }

// file is hidden, and named for the fault.
func (b *Ballast) file(id string) string { return filepath.Join(b.Dir, ".tunneldirector-drill-"+id) }
