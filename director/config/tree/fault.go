package tree

import (
	"fmt"
	"strings"
)

// A Fault is one thing wrong with a file.
type Fault struct {
	Path    string `json:"path,omitempty"`   // interfaces[1].roles[0]; "" is the file as a whole
	Problem string `json:"problem"`          // what is wrong, and what would be right
	Line    int    `json:"line,omitempty"`   // from 1; 0: not at any one place
	Column  int    `json:"column,omitempty"` // from 1; 0: the line says enough
}

func (f Fault) Error() string {
	s := f.Problem
	if f.Path != "" {
		s = f.Path + ": " + s
	}
	switch {
	case f.Line > 0 && f.Column > 0:
		return fmt.Sprintf("%s (line %d, column %d)", s, f.Line, f.Column)
	case f.Line > 0:
		return fmt.Sprintf("%s (line %d)", s, f.Line)
	}
	return s
}

// Faults is the error of a file: all that is wrong with it, in the order of its lines.
type Faults []Fault

func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i := range f {
		lines[i] = f[i].Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap lets errors.As find a Fault.
func (f Faults) Unwrap() []error {
	list := make([]error, len(f))
	for i := range f {
		list[i] = f[i]
	}
	return list
}
