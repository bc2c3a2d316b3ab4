package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"tunneldirector/director/api"
)

// settings looks at the kernel's settings that work against the director.
func (e *exam) settings(context.Context) error {
	if e.Settings == nil {
		return errors.New("the plane forwards nothing: no setting matters")
	}
	found, err := e.Settings()
	for _, f := range found {
		e.find(api.Risks, "", time.Time{}, f.What, f.Why, f.Mend)
	}
	return err
}

const (
	jumped  = 2 * time.Second // the wall clock since the start, off what passed
	offABit = 1.0             // seconds off the other directors
	offALot = 60.0
)

// clock looks whether the clock is right, as far as can be told without asking anybody outside.
func (e *exam) clock(ctx context.Context) error {
	if s, err := e.status(); err == nil && s.ClockSays != "" {
		e.find(api.Risks, e.Name, time.Time{}, "the clock is "+s.ClockSays, "times in records are not those of the wall; certificates may seem expired", "chronyc tracking, or timedatectl; set it right slowly")
	}
	if wall, passed := e.now.Round(0).Sub(e.Began.Round(0)), e.now.Sub(e.Began); !e.Began.IsZero() && (wall-passed).Abs() > jumped {
		e.find(api.Risks, e.Name, e.Began, fmt.Sprintf("the clock was set by %v since the director started", (wall-passed).Round(time.Millisecond)), "what was learned before has wrong times; leases and certificates may seem to have ended", "chronyc tracking; let time be kept by one service alone")
	}
	if free, known := unsynchronised(); known && free {
		e.find(api.Notes, e.Name, time.Time{}, "the kernel says that nobody keeps its clock right", "it drifts; over a minute off the others, and stamps count by themselves", "systemctl enable --now chrony, or systemd-timesyncd")
	}
	if e.Cluster == nil {
		return nil
	}
	c, err := e.Cluster(ctx)
	if err != nil {
		return err
	}
	for _, m := range c.Members {
		off := max(m.ClockOffset, -m.ClockOffset)
		switch {
		case m.Self || m.State == api.MemberDead || off < offABit:
		case off < offALot:
			e.find(api.Notes, m.Name, time.Time{}, fmt.Sprintf("the clock of director %s is %.1f s off this one's", m.Name, m.ClockOffset), "events are hard to compare", "chronyc tracking on both")
		default:
			e.find(api.Risks, m.Name, time.Time{}, fmt.Sprintf("the clock of director %s is %.0f s off this one's", m.Name, m.ClockOffset), "stamps of one of them count by themselves; certificates may be refused", "chronyc tracking on both")
		}
	}
	return nil
}

// disk looks whether the store has room.
func (e *exam) disk(context.Context) error {
	s, err := e.status()
	if err != nil {
		return err
	}
	switch {
	case !s.Writable:
		e.find(api.Breaks, e.Name, time.Time{}, "the store takes no writes: "+s.NotWritable, "no tunnel can be added or changed; forwarding goes on", "make room: df; then it goes on by itself")
	case s.DiskFree == 0:
		return errors.New("the free space is not known")
	case s.DiskFree < 2*e.Reserve+s.DiskUsed:
		e.find(api.Risks, e.Name, time.Time{}, fmt.Sprintf("%d MiB are free on the store's disk, of which %d are left alone, and the store has %d", s.DiskFree>>20, e.Reserve>>20, s.DiskUsed>>20),
			"when it is full no tunnel can be added or changed", "make room there, or give data_dir a larger disk")
	}
	return nil
}

const (
	hot  = 0.8 // of a core's time, in packets
	cool = 0.3 // of the other cores' mean
)

// processors looks whether the load of packets is spread.
func (e *exam) processors(context.Context) error {
	if e.before.coreErr != nil {
		return e.before.coreErr
	}
	if e.after.coreErr != nil {
		return e.after.coreErr
	}
	e.queues()
	n := min(len(e.before.cores), len(e.after.cores))
	shares, sum, busiest := make([]float64, n), 0.0, 0
	for i := range n {
		b, a := e.before.cores[i], e.after.cores[i]
		if t := a.total - b.total; a.total > b.total {
			shares[i] = float64(a.softirq-min(b.softirq, a.softirq)) / float64(t)
		}
		sum += shares[i]
		if shares[i] > shares[busiest] {
			busiest = i
		}
		core := fmt.Sprintf("cpu %d", i)
		if d := a.dropped - min(b.dropped, a.dropped); d > 0 {
			e.find(api.Breaks, core, time.Time{}, fmt.Sprintf("%s dropped %d packets in the last second: its queue is full", core, d), "packets of any tunnel are lost", "sysctl -w net.core.netdev_max_backlog=10000; spread the load: ethtool -L, -X")
		}
		if d := a.starved - min(b.starved, a.starved); d > 10 {
			e.find(api.Risks, core, time.Time{}, fmt.Sprintf("%s had to leave packets waiting %d times in the last second", core, d), "packets come late", "sysctl -w net.core.netdev_budget=600; spread the load: ethtool -L, -X")
		}
	}
	if n > 1 && shares[busiest] > hot && (sum-shares[busiest])/float64(n-1) < cool {
		e.find(api.Risks, fmt.Sprintf("cpu %d", busiest), time.Time{}, fmt.Sprintf("cpu %d is %.0f %% busy with packets, the others %.0f %%", busiest, shares[busiest]*100, (sum-shares[busiest])/float64(n-1)*100),
			"one core is the limit of all: one flow, or one hash for all flows (ESP between two addresses is one)", "ethtool -x IF; ethtool -N IF rx-flow-hash esp4 sdfn where the card can; ethtool -L IF combined N")
	}
	return nil
}

// queues compares the cards' receive queues with the processors.
func (e *exam) queues() {
	for _, i := range e.Interfaces {
		if _, err := fs.Stat(e.Files, "sys/class/net/"+i.Name+"/device"); err != nil {
			continue // no card: veth, bridge
		}
		list, err := fs.ReadDir(e.Files, "sys/class/net/"+i.Name+"/queues")
		if err != nil {
			e.unchecked("receive queues of %s: %v", i.Name, err)
			continue
		}
		n := 0
		for _, q := range list {
			if strings.HasPrefix(q.Name(), "rx-") {
				n++
			}
		}
		if cores := len(e.after.cores); n > 0 && n < min(cores, 8) {
			e.find(api.Notes, i.Name, time.Time{}, fmt.Sprintf("%s has %d receive queues, and there are %d processors", i.Name, n, cores), "so many processors at most take its packets in", "ethtool -l "+i.Name+"; ethtool -L "+i.Name+" combined N, where it can more")
		}
	}
}

// endsSoon is from when on a certificate's end is told.
const endsSoon = 14 * 24 * time.Hour

// certificates looks when they end.
func (e *exam) certificates(context.Context) error {
	if e.Certificates == nil {
		return errors.New("this director shows nobody a certificate")
	}
	for _, c := range e.Certificates() {
		left := c.Expires.Sub(e.now)
		switch {
		case c.Err != nil:
			e.unchecked("certificate %s: %v", c.Of, c.Err)
		case left <= 0:
			e.find(api.Breaks, c.Of, c.Expires, "the certificate "+c.Of+" has expired", "new connections by it are refused; forwarding goes on", firstOf(c.Alarm, "issue another one"))
		case c.Alarm != "":
			e.find(api.Risks, c.Of, time.Time{}, "the certificate "+c.Of+": "+c.Alarm, "when it ends, new connections by it are refused; forwarding goes on", "as it says")
		case left < endsSoon:
			e.find(api.Risks, c.Of, time.Time{}, fmt.Sprintf("the certificate %s ends in %.0f days", c.Of, left.Hours()/24), "then new connections by it are refused", "renew it")
		}
	}
	return nil
}
