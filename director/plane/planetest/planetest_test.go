package planetest

import (
	"testing"

	"tunneldirector/director/plane"
	"tunneldirector/director/plane/mem"
)

// TestMem is mem against mem: histories are sound, and reach every reason that a Packet can reach.
func TestMem(t *testing.T) {
	m := mem.New(DefaultInterfaces())
	Run(t, Options{Histories: 60, Open: func(testing.TB) plane.Plane { return m }})
}
