package api

import (
	"errors"
	"fmt"
	"net/http"
)

const (
	giveUpAfter = 1000   // lines that are no JSON objects, if none was before
	giveUpRun   = 10_000 // such lines in a row, whatever was before
	maxTold     = 10_000 // refused lines that are told one by one; more are counted
)

var errNotNDJSON = errors.New("the body is not NDJSON")

// A sieve tells garbage from a list with faults in it. One goroutine owns it.
type sieve struct {
	lines, run int
	any        bool // JSON object
	garbage    error
	told       int
}

// take looks at a line.
func (v *sieve) take(it item) {
	v.lines++
	if it.object() {
		v.any, v.run = true, 0
		return
	}
	v.run++
	switch {
	case v.garbage != nil:
	case !v.any && v.lines >= giveUpAfter:
		v.garbage = fmt.Errorf("%w: none of its first %d lines is a JSON object", errNotNDJSON, giveUpAfter)
	case v.run >= giveUpRun:
		v.garbage = fmt.Errorf("%w: %d lines in a row are not JSON objects", errNotNDJSON, giveUpRun)
	}
}

// object tells whether a line is a JSON object, if a faulty one.
func (it *item) object() bool {
	return it.problem == nil || it.braced && it.problem.Status != http.StatusBadRequest && it.problem.Status != http.StatusRequestEntityTooLarge
}

// tells says whether one more refused line is told.
func (v *sieve) tells() bool {
	v.told++
	return v.told <= maxTold
}
