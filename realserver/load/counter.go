package load

import "time"

// span is how far back rates look.
const span = 5 * time.Second

// A counter is what a counter of the kernel stood at, over the span.
type counter []point

type point struct {
	at    time.Time
	value uint64
}

// add notes a value. A value or a time that went back begins anew: it is another counter, under an old name.
func (c *counter) add(at time.Time, value uint64) {
	p := *c
	if n := len(p); n > 0 && (value < p[n-1].value || !at.After(p[n-1].at)) {
		p = p[:0]
	}
	*c = trim(append(p, point{at, value}), at, func(p point) time.Time { return p.at })
}

// rate is the growth a second, over no less than the span: before the first value it is taken not to have grown. So the first second of a
// process, or of the agent, is no overload.
func (c counter) rate() float64 {
	if len(c) < 2 {
		return 0
	}
	first, last := c[0], c[len(c)-1]
	return float64(last.value-first.value) / max(span, last.at.Sub(first.at)).Seconds()
}

// An average is a level, over the span.
type average []levelAt

type levelAt struct {
	at    time.Time
	level float64
}

func (a *average) add(at time.Time, level float64) {
	l := *a
	if n := len(l); n > 0 && !at.After(l[n-1].at) {
		l = l[:0]
	}
	*a = trim(append(l, levelAt{at, level}), at, func(l levelAt) time.Time { return l.at })
}

// mean is that of the span, in which each level held since the one before; before the first it was 0.
func (a average) mean() float64 {
	if len(a) < 2 {
		return 0
	}
	var sum float64
	for i, l := range a[1:] {
		sum += l.level * l.at.Sub(a[i].at).Seconds()
	}
	return sum / max(span, a[len(a)-1].at.Sub(a[0].at)).Seconds()
}

// trim drops what is older than the span, but for the newest of that, which is where the span begins; and that, too, if it is
// from before a break.
func trim[T any](all []T, now time.Time, at func(T) time.Time) []T {
	n := 0
	for len(all)-n > 2 && (now.Sub(at(all[n+1])) >= span || now.Sub(at(all[n])) > 2*span) {
		n++
	}
	return append(all[:0], all[n:]...)
}
