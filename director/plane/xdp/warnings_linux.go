package xdp

import "slices"

// Warnings are what keeps packets from arriving as the configuration means it, a sentence each that names the remedy, as Run
// saw it last. Any goroutine may call it.
func (p *Plane) Warnings() []string {
	if w := p.warnings.Load(); w != nil {
		return slices.Clone(*w)
	}
	return nil
}

// warn makes now what there is to be warned of, and tells the log what came and went.
func (p *Plane) warn(now []string) {
	slices.Sort(now)
	now = slices.Compact(now)
	was := p.Warnings()
	for _, s := range now {
		if !slices.Contains(was, s) {
			p.log.Warn("packets may not arrive", "cause", s)
		}
	}
	for _, s := range was {
		if !slices.Contains(now, s) {
			p.log.Info("a warning is over", "cause", s)
		}
	}
	p.warnings.Store(&now)
}
