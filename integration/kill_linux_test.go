package integration

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"tunneldirector/integration/lab"
)

// TestKilledDaemon: forwarding goes on without the daemon; its successor adopts what it finds, counters and last-seen
// included.
func TestKilledDaemon(t *testing.T) {
	t.Parallel()
	r := newRig(t, lab.Options{Sites: 4}, "")
	silent, speaking := r.Sites[0], r.Sites[1:]
	r.must("silence", silent.NS.Run(func() error { // WireGuard would say something by itself after a while
		link, err := netlink.LinkByName(silent.Port.Name)
		if err != nil {
			return err
		}
		return netlink.LinkSetDown(link)
	}))
	placements, lives, seen := r.placements(), r.lives(), r.tunnel(silent).LastSeen
	if seen == nil {
		t.Fatal("a tunnel that is up was never seen")
	}
	end := r.send(speaking...)
	r.rest(200 * time.Millisecond)
	before := r.status()
	r.must("kill", r.d.Kill())
	r.rest(time.Second)
	sent := r.lossless(end, "daemon killed")
	for _, s := range speaking {
		if lost := r.ping(s, 5); lost > 0 {
			t.Errorf("%s without a daemon: %d of 10 packets lost", s.Name, lost)
		}
	}

	end = r.send(speaking...)
	r.must("start again", r.d.Start(r.ctx))
	r.rest(time.Second)
	r.lossless(end, "daemon starting again")
	after := r.status()
	if diff := cmp.Diff(placements, r.placements()); diff != "" {
		t.Errorf("placements (-before +after):\n%s", diff)
	}
	if diff := cmp.Diff(lives, r.lives()); diff != "" {
		t.Errorf("real servers (-before +after):\n%s", diff)
	}
	if after.Store != before.Store || after.Revision < before.Revision {
		t.Errorf("store %s:%d, then %s:%d", before.Store, before.Revision, after.Store, after.Revision)
	}
	// Five sixths of what was sent around the death were sent after it, and each is a packet to the VIP, or brings one.
	if got := after.Services[0].Traffic.Packets - before.Services[0].Traffic.Packets; got < uint64(sent)/2 {
		t.Errorf("%d packets counted from before the death on, want at least half of %d", got, sent)
	}
	// The kernel's clock is another one: a millisecond is rounding.
	if got := r.tunnel(silent); got.LastSeen == nil || got.LastSeen.Sub(*seen).Abs() > time.Millisecond || !got.Up {
		t.Errorf("%s was last seen %v, then %v (up: %t)", silent.Name, seen, got.LastSeen, got.Up)
	}
}
