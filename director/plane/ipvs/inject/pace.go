package inject

// A pace is how many messages may be under way at once. The daemon's queue has room for a few (212,992 bytes by default, of
// which the longest message takes 17 thousand), and what it has no room for is lost. Its size cannot be read, but does
// not change: so the pace grows until something is lost, shrinks then, and does not grow again.
type pace struct {
	window int
	found  bool // the queue's size, near enough
}

const (
	firstWindow = 8
	// lastWindow is far below what the kernel's queue before the daemon's holds (netdev_max_backlog, 1000 packets).
	lastWindow = 64
)

func newPace() pace { return pace{window: firstWindow} }

func (p *pace) arrived() {
	if !p.found {
		p.window = min(p.window+1, lastWindow)
	}
}

func (p *pace) lost() {
	p.window, p.found = max(p.window*3/4, 1), true
}
