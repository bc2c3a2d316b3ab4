package ipvs

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/mdlayher/packet"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
	"tunneldirector/director/plane/frame"
)

// A crowd is many tunnels of one service over a rig, what they are pinned to, and who was removed when.
type crowd struct {
	t     testing.TB
	r     *rig
	p     *Plane
	rng   *rand.Rand
	alive map[affinity.Index]bool
	pins  map[uint32]plane.Target
	began time.Time

	mu      sync.Mutex // guards the rest
	sources []uint32   // of the pins, for the sender
	removed map[uint32]time.Duration
	wrong   []string
	seen    int
}

// crowdHosts are the real servers' machines: index i is on host i-1.
func crowdHosts() int { return len(testHosts()) }

func source(n uint32) netip.Addr {
	return netip.AddrFrom4([4]byte{100, 64 + byte(n>>16), byte(n >> 8), byte(n)})
}

func newCrowd(t testing.TB, size uint32) *crowd {
	r := newRig(t)
	p, err := Open(Options{Interfaces: testInterfaces()})
	must(t, err)
	t.Cleanup(func() { must(t, p.Close()) })
	c := &crowd{t: t, r: r, p: p, rng: rand.New(rand.NewPCG(7, 11)), alive: map[affinity.Index]bool{}, pins: map[uint32]plane.Target{},
		removed: map[uint32]time.Duration{}, began: time.Now()}
	r.near.Give("lo", "192.0.2.10/32")
	for i := range crowdHosts() {
		c.alive[affinity.Index(i+1)] = true
	}
	for n := range size {
		c.pins[n] = c.target()
	}
	c.list()
	began := time.Now()
	must(t, p.Replace(t.Context(), c.config(), func(yield func(plane.Entry) bool) {
		for n, target := range c.pins {
			if !yield(c.entry(n, target)) {
				return
			}
		}
	}))
	t.Logf("MEASURED pins programmed at a start %.0f entries/s %d pins of 2 entries", 2*float64(size)/time.Since(began).Seconds(), size)
	return c
}

func (c *crowd) target() plane.Target {
	n := crowdHosts()
	primary := affinity.Index(1 + c.rng.IntN(n))
	return plane.Target{Primary: primary, Backup: primary%affinity.Index(n) + 1}
}

func (c *crowd) entry(n uint32, t plane.Target) plane.Entry {
	return plane.Entry{Endpoint: plane.EndpointKey{VIP: vip4, Addr: source(n)}, Target: t}
}

func (c *crowd) config() plane.Config {
	config := small()
	config.RealServers = nil
	for i, h := range testHosts() {
		index := affinity.Index(i + 1)
		config.RealServers = append(config.RealServers, plane.RealServer{Index: index, Name: fmt.Sprintf("rs%d", index), Addrs: h.Addrs, Alive: c.alive[index]})
	}
	return config
}

func (c *crowd) list() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sources = slices.Collect(maps.Keys(c.pins))
}

// change makes one random step: deaths and returns, repins, removals, new tunnels.
func (c *crowd) change() {
	var u plane.Update
	switch c.rng.IntN(8) {
	case 0, 1:
		i := affinity.Index(1 + c.rng.IntN(crowdHosts()))
		c.alive[i] = !c.alive[i]
		must(c.t, c.p.SetAlive(i, c.alive[i]))
		return
	case 2, 3, 4:
		for range 1 + c.rng.IntN(40) {
			n := c.any()
			c.pins[n] = c.target()
			u.Entries = append(u.Entries, c.entry(n, c.pins[n]))
		}
	case 5, 6:
		for range 1 + c.rng.IntN(20) {
			n := c.any()
			delete(c.pins, n)
			u.Entries = append(u.Entries, cut(c.entry(n, plane.Target{})))
		}
	case 7:
		for range 1 + c.rng.IntN(20) {
			n := uint32(1<<17 + c.rng.IntN(1<<16))
			c.pins[n] = c.target()
			u.Entries = append(u.Entries, c.entry(n, c.pins[n]))
		}
	}
	c.back(u)
	must(c.t, c.p.Apply(c.t.Context(), u))
	c.gone(u)
	c.list()
}

// any is one of the pinned.
func (c *crowd) any() uint32 {
	for n := range c.pins {
		return n
	}
	return 0
}

// back takes those that are pinned again off the removed.
func (c *crowd) back(u plane.Update) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range u.Entries {
		if !e.Delete {
			delete(c.removed, number(e.Endpoint.Addr))
		}
	}
}

// gone notes when the plane has said that they are removed.
func (c *crowd) gone(u plane.Update) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range u.Entries {
		if e.Delete {
			c.removed[number(e.Endpoint.Addr)] = time.Since(c.began)
		}
	}
}

func number(a netip.Addr) uint32 {
	b := a.As4()
	return uint32(b[1]-64)<<16 | uint32(b[2])<<8 | uint32(b[3])
}

// send sends packets of tunnels, also of removed ones, each with the time of its sending, until ctx ends.
func (c *crowd) send(ctx context.Context) error {
	rng := rand.New(rand.NewPCG(3, 5))
	macs := frame.MACs{Src: net.HardwareAddr{2, 0, 0, 5, 0, 9}, Dst: c.r.macs["tun0"]}
	for ctx.Err() == nil {
		c.mu.Lock()
		n := c.sources[rng.IntN(len(c.sources))]
		for gone := range c.removed {
			if rng.IntN(3) == 0 {
				n = gone
			}
			break
		}
		c.mu.Unlock()
		p := plane.Packet{Src: source(n), Dst: vip4, Proto: protoESP, Hops: 64}
		if rng.IntN(2) == 0 {
			p.Proto, p.SrcPort, p.DstPort = protoUDP, uint16(1024+rng.IntN(60000)), 4500
		}
		b, err := frame.Build(p, macs)
		if err != nil {
			return err
		}
		binary.BigEndian.PutUint64(b[46:], uint64(time.Since(c.began))) // into the payload, which nobody checks; a UDP checksum of 0 is none
		b[40], b[41] = 0, 0
		if _, err := c.r.ends["tun0"].WriteTo(b, &packet.Addr{HardwareAddr: macs.Dst}); err != nil {
			return err
		}
		time.Sleep(time.Millisecond)
	}
	return nil
}

// receive looks at what comes to real servers: nothing that was sent after its tunnel was removed.
func (c *crowd) receive() {
	buf := make([]byte, 4096)
	for {
		n, _, err := c.r.ends[rigServers].ReadFrom(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
		if err != nil || n < 60 || !bytes.Equal(buf[12:14], []byte{8, 0}) || netip.AddrFrom4([4]byte(buf[30:34])) != vip4 {
			continue
		}
		from, sent := netip.AddrFrom4([4]byte(buf[26:30])), time.Duration(binary.BigEndian.Uint64(buf[46:]))
		c.mu.Lock()
		c.seen++
		if at, ok := c.removed[number(from)]; ok && sent > at {
			c.wrong = append(c.wrong, fmt.Sprintf("%v, removed at %v, sent at %v", from, at, sent))
		}
		c.mu.Unlock()
	}
}

// run makes steps under traffic, then lets graves run out.
func (c *crowd) run(steps int) {
	ctx, stop := context.WithCancel(c.t.Context())
	sent, received := make(chan error, 1), make(chan struct{})
	must(c.t, c.r.ends[rigServers].SetReadDeadline(time.Time{}))
	go func() { sent <- c.send(ctx) }()
	go func() { c.receive(); close(received) }()
	for range steps {
		c.change()
	}
	time.Sleep(graveShort + 500*time.Millisecond)
	stop()
	must(c.t, <-sent)
	must(c.t, c.r.ends[rigServers].SetReadDeadline(time.Now().Add(200*time.Millisecond)))
	<-received
	if c.seen == 0 || len(c.removed) == 0 {
		c.t.Fatalf("%d packets came to real servers, %d tunnels are removed: the test shows nothing", c.seen, len(c.removed))
	}
	if len(c.wrong) > 0 {
		c.t.Errorf("%d packets of removed tunnels came to real servers: %v", len(c.wrong), c.wrong[:min(3, len(c.wrong))])
	}
}

// After deaths, repins and removals under traffic the kernel's table is the wanted one, entry by entry.
func TestHistoryReadBack(t *testing.T) {
	c := newCrowd(t, 5000)
	c.run(60)
	var differences []string
	audit := func() plane.Audited {
		began := time.Now()
		differences = nil
		sum, err := c.p.Audit(t.Context(), func(d plane.Difference) bool {
			differences = append(differences, fmt.Sprintf("%s: want %s, have %s", d.Key, d.Want, d.Have))
			return len(differences) < 10
		})
		must(t, err)
		t.Logf("MEASURED audit of the whole table %.2f s %d entries", time.Since(began).Seconds(), sum.Equal)
		return sum
	}
	sum := audit()
	for end := time.Now().Add(graveTime); len(differences) > 0 && sum.Missing+sum.Other == 0 && time.Now().Before(end); sum = audit() {
		time.Sleep(5 * time.Second) // what was sent from at the very moment may linger, for a minute
	}
	if len(differences) > 0 || int(sum.Equal) != 2*len(c.pins) {
		t.Errorf("%d of %d entries are equal; differences: %v", sum.Equal, 2*len(c.pins), differences)
	}
	c.spotCheck(200)
}

// The same with many more, by the destinations' counters. A few entries may linger where they were sent from, for a minute.
func TestHistoryCounters(t *testing.T) {
	c := newCrowd(t, 100_000)
	c.run(60)
	few, many := c.off()
	for end := time.Now().Add(graveTime); len(few) == 0 && len(many) > 0 && time.Now().Before(end); few, many = c.off() {
		time.Sleep(time.Second)
	}
	if len(few)+len(many) > 0 {
		t.Errorf("too few entries: %v; too many: %v", few, many)
	}
	if c.p.proof.repairs != 0 {
		t.Errorf("%d repairs", c.p.proof.repairs)
	}
}

// off are the destinations that have fewer or more entries than pins go to them.
func (c *crowd) off() (few, many []string) {
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	list, err := c.p.lvs.Read()
	must(c.t, err)
	for _, v := range list {
		for d, n := range c.p.offBy(c.p.services[v.key], v) {
			if what := fmt.Sprintf("%v at %v: %+d", d.addr, v.key, n); n < 0 {
				few = append(few, what)
			} else {
				many = append(many, what)
			}
		}
	}
	return few, many
}

// spotCheck sends packets of pinned tunnels and compares where they come out with what Lookup says.
func (c *crowd) spotCheck(times int) {
	for range times {
		p := plane.Packet{Interface: "tun0", Src: source(c.any()), Dst: vip4, Proto: protoESP, Hops: 64}
		want, err := c.p.Lookup(p)
		must(c.t, err)
		b, err := frame.Build(p, frame.MACs{Src: net.HardwareAddr{2, 0, 0, 5, 0, 9}, Dst: c.r.macs["tun0"]})
		must(c.t, err)
		out, err := c.r.inject(b, "tun0")
		must(c.t, err)
		switch {
		case want.RealServer == 0 && out.Frame == nil:
		case want.RealServer == 0 || out.Frame == nil || !bytes.Equal(out.Frame[:6], testHosts()[want.RealServer-1].MAC):
			c.t.Fatalf("%v: Lookup says real server %d (%v), the frame is %x", p.Src, want.RealServer, want.Reason, out.Frame)
		}
	}
}
