package inject

import (
	"slices"
	"testing"
)

func TestPace(t *testing.T) {
	p := newPace()
	for range 2 {
		p.arrived()
	}
	if p.window != firstWindow+2 {
		t.Errorf("window %d, want %d", p.window, firstWindow+2)
	}
	var got []int
	for range 7 {
		p.lost()
		p.arrived()
		got = append(got, p.window)
	}
	if want := []int{7, 5, 3, 2, 1, 1, 1}; !slices.Equal(got, want) {
		t.Errorf("windows %v, want %v", got, want)
	}
	p = newPace()
	for range 100 {
		p.arrived()
	}
	if p.window != lastWindow {
		t.Errorf("window %d, want %d", p.window, lastWindow)
	}
}
