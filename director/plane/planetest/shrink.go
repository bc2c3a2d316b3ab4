package planetest

import (
	"slices"

	"tunneldirector/director/plane"
)

// shrinkCalls bounds how many shorter histories are tried.
const shrinkCalls = 300

// shrink leaves out what the failure does not need: steps that came before, and all packets but the one. What is left
// fails too, perhaps in other words, and is put into f.
func (r *rig) shrink(f *failure, steps []step) {
	small := slices.Clone(steps[:f.at+1])
	for i := range small {
		small[i].packets = nil
	}
	if f.packet != nil {
		small[f.at].packets = []plane.Packet{*f.packet}
	}
	last := r.play(small)
	if last == nil {
		f.note = "it does not happen when this history is played again alone: look for what earlier ones, or Lookups, left behind"
		return
	}
	for again, calls := true, 0; again && calls < shrinkCalls; {
		again = false
		for i := len(small) - 2; i >= 0 && calls < shrinkCalls; i-- {
			shorter := slices.Delete(slices.Clone(small), i, i+1)
			calls++
			if g := r.play(shorter); g != nil && g.at == len(shorter)-1 {
				small, last, again = shorter, g, true
			}
		}
	}
	f.small, f.smallWhat = small, last.what
}
