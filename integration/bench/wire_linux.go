package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
	"tunneldirector/director/plane/xdp"
)

// The ways from the generator to the receiver; each is a veth pair into the director, and all leave it by one.
const (
	wayXDP      = "xdp"
	wayRedirect = "redirect"
	wayRoute    = "route"
)

var ways = []string{wayXDP, wayRedirect, wayRoute}

var (
	wireVIP     = netip.MustParseAddr("192.0.2.10")
	wireServers = []netip.Addr{netip.MustParseAddr("198.51.100.11"), netip.MustParseAddr("198.51.100.12")}
	wireOwn     = netip.MustParseAddr("198.51.100.2")
)

const firstSource = 0x0a000000 // FIRST_SOURCE of bpf/wire.c

// A wire is a generator, a director and a receiver.
//
//	generator ── xdp, redirect, route ──▶ director ── out ──▶ receiver
type wire struct {
	generator, director, receiver *machine

	bpf     wireObjects
	plane   *xdp.Plane
	ways    map[string]wireHop
	cleanup []func() error
}

// wireRows measures packets per second over veth on one core.
func wireRows(ctx context.Context, o options) (_ []Row, err error) {
	o.say("wire: building it")
	w := &wire{ways: map[string]wireHop{}}
	defer func() { err = errors.Join(err, w.close()) }()
	if err := w.build(); err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- w.plane.Run(ctx) }()
	defer func() {
		stop()
		err = errors.Join(err, <-ended)
	}()
	var rows []Row
	for _, n := range o.sizes() {
		o.say("wire: %d pins", n)
		if err := w.fill(ctx, n); err != nil {
			return rows, err
		}
		r, err := w.measure(ctx, n, o)
		if err != nil {
			return rows, err
		}
		rows = append(rows, r...)
	}
	return rows, nil
}

func (w *wire) build() error {
	for _, m := range []**machine{&w.generator, &w.director, &w.receiver} {
		var err error
		if *m, err = newMachine(); err != nil {
			return err
		}
	}
	if err := w.load(); err != nil {
		return err
	}
	if err := cable(w.director, "out", w.receiver, "in"); err != nil {
		return err
	}
	for i, way := range ways {
		if err := cable(w.generator, way, w.director, way); err != nil {
			return err
		}
		if err := w.director.address(way, fmt.Sprintf("10.200.%d.2/24", i)); err != nil {
			return err
		}
		hop, err := hopTo(w.generator, w.director, way, way)
		if err != nil {
			return err
		}
		w.ways[way] = hop
	}
	if err := w.buildOut(); err != nil {
		return err
	}
	return w.openPlane()
}

// load loads the programs.
func (w *wire) load() error {
	spec, err := loadWire()
	if err != nil {
		return fmt.Errorf("read the wire's programs: %w", err)
	}
	vip := wireVIP.As4()
	if err := spec.Variables["wire_vip"].Set(binary.NativeEndian.Uint32(vip[:])); err != nil {
		return fmt.Errorf("set the VIP: %w", err)
	}
	if err := spec.LoadAndAssign(&w.bpf, nil); err != nil {
		return fmt.Errorf("load the wire's programs: %w", err)
	}
	w.cleanup = append(w.cleanup, w.bpf.Close)
	return nil
}

// buildOut makes the way from the director to the receiver, and attaches the programs.
func (w *wire) buildOut() error {
	hop, err := hopTo(w.director, w.receiver, "out", "in")
	if err != nil {
		return err
	}
	err = errors.Join(w.director.address("out", wireOwn.String()+"/24"), w.receiver.address("in", wireServers[0].String()+"/24", wireServers[1].String()+"/24"),
		w.bpf.WireWay.Put(uint32(1), hop), w.receiver.attach("in", w.bpf.WireTake),
		w.director.attach(wayRedirect, w.bpf.WireRedirect), w.director.attach(wayRoute, w.bpf.WirePass))
	for _, a := range wireServers {
		err = errors.Join(err, w.director.neighbour("out", a, hop.Dst))
	}
	if err != nil {
		return err
	}
	return errors.Join(w.director.route(wireVIP, wireServers[0], "out"), w.director.do(func() error {
		return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644)
	}))
}

// hopTo is what a frame over the cable from interface a of one machine to b of another is given.
func hopTo(from, to *machine, a, b string) (wireHop, error) {
	index, src, err := from.link(a)
	if err != nil {
		return wireHop{}, err
	}
	_, dst, err := to.link(b)
	return wireHop{Dst: dst, Src: src, Ifindex: uint32(index)}, err
}

func (w *wire) openPlane() error {
	dir, unmount, err := mountBPF()
	if err != nil {
		return err
	}
	w.cleanup = append(w.cleanup, unmount)
	pins := filepath.Join(dir, "plane")
	err = w.director.do(func() (err error) {
		w.plane, err = xdp.Open(xdp.Options{PinPath: pins, Interfaces: []plane.Interface{
			{Name: wayXDP, Roles: plane.RoleTunnel}, {Name: "out", Roles: plane.RoleRealServers},
		}})
		return err
	})
	if err != nil {
		return err
	}
	w.cleanup = append(w.cleanup, func() error { return errors.Join(w.plane.Close(), xdp.Uninstall(pins)) })
	return nil
}

func (w *wire) close() error {
	var errs []error
	for i := len(w.cleanup) - 1; i >= 0; i-- {
		errs = append(errs, w.cleanup[i]())
	}
	for _, m := range []*machine{w.generator, w.director, w.receiver} {
		if m != nil {
			m.close()
		}
	}
	return errors.Join(errs...)
}

// fill pins n sources, half of them to each real server, and waits until they are forwarded.
func (w *wire) fill(ctx context.Context, n int) error {
	c := plane.Config{
		Own:      []netip.Addr{wireOwn},
		Services: []plane.Service{{Num: 1, Name: "ipsec", VIPs: []netip.Addr{wireVIP}, Match: []affinity.Match{{Proto: unix.IPPROTO_ESP}}}},
	}
	for i, a := range wireServers {
		c.RealServers = append(c.RealServers, plane.RealServer{Index: affinity.Index(i + 1), Name: a.String(), Addrs: []netip.Addr{a}, Alive: true})
	}
	err := w.plane.Replace(ctx, c, func(yield func(plane.Entry) bool) {
		for i := range n {
			k := plane.EndpointKey{VIP: wireVIP, Addr: source(i)}
			if !yield(plane.Entry{Endpoint: k, Target: plane.Target{Primary: affinity.Index(1 + i%2), Backup: affinity.Index(2 - i%2)}}) {
				return
			}
		}
	})
	if err != nil {
		return err
	}
	return within(ctx, 5*time.Second, func() error {
		for i := range wireServers {
			s, err := w.send(wayXDP, i+1, 64)
			if err == nil && s.Received == 0 {
				err = errors.New("nothing is forwarded")
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// source is source i, as bpf/wire.c has it.
func source(i int) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], uint32(firstSource+i))
	return netip.AddrFrom4(b)
}

// send makes at least count packets go a way, from n random sources, and tells what became of them.
func (w *wire) send(way string, n, count int) (wireSums, error) {
	hop := w.ways[way]
	hop.Keys = uint32(n)
	before, err := w.sums()
	if err == nil {
		err = w.bpf.WireWay.Put(uint32(0), hop)
	}
	if err != nil {
		return wireSums{}, err
	}
	err = w.generator.do(func() error {
		var cpu unix.CPUSet
		cpu.Set(runtime.NumCPU() - 1)
		if err := unix.SchedSetaffinity(0, &cpu); err != nil {
			return os.NewSyscallError("sched_setaffinity", err)
		}
		_, err := w.bpf.WireFeed.Run(&ebpf.RunOptions{Data: make([]byte, 64), Repeat: uint32(count), Flags: unix.BPF_F_TEST_XDP_LIVE_FRAMES})
		return err
	})
	if err != nil {
		return wireSums{}, fmt.Errorf("generate packets: %w", err)
	}
	after, err := w.sums()
	return wireSums{Sent: after.Sent - before.Sent, Received: after.Received - before.Received,
		Reordered: after.Reordered - before.Reordered, Astray: after.Astray - before.Astray}, err
}

func (w *wire) sums() (s wireSums, err error) {
	if err = w.bpf.WireSums.Lookup(uint32(0), &s); err != nil {
		err = fmt.Errorf("read the receiver's counts: %w", err)
	}
	return s, err
}

const (
	burst = 100_000 // packets, so that the ways take turns within the machine's moods
	turns = 7       // a round
)

// measure lets the ways take turns.
func (w *wire) measure(ctx context.Context, n int, o options) ([]Row, error) {
	rate := map[string]samples{}
	total := map[string]wireSums{}
	for range o.rounds() * turns {
		for _, way := range ways {
			began := time.Now()
			s, err := w.send(way, n, burst)
			took := time.Since(began)
			if err != nil {
				return nil, err
			}
			rate[way] = append(rate[way], float64(s.Received)/took.Seconds()/1000)
			t := total[way]
			total[way] = wireSums{Sent: t.Sent + s.Sent, Received: t.Received + s.Received, Reordered: t.Reordered + s.Reordered, Astray: t.Astray + s.Astray}
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	name := func(s string) string { return fmt.Sprintf("wire/%s/%d", s, n) }
	t := total[wayXDP]
	return []Row{
		against(name("xdp"), "kpps", rate[wayXDP], "kernel routing", rate[wayRoute]).ratioAtLeast(2),
		over(name("xdp of redirect"), "kpps", rate[wayXDP], "redirect only", rate[wayRedirect]).ratioAtLeast(0.65),
		share(name("xdp reordered"), t.Reordered, "received, 1 in 64 sources watched", t.Received),
		share(name("xdp lost or astray"), t.Sent-t.Received+t.Astray, "sent", t.Sent),
	}, nil
}

// share is a count out of another, and should be none.
func share(name string, count uint64, of string, all uint64) Row {
	return against(name, "packets", one(float64(count)), of, one(float64(all))).valueAtMost(0)
}

// within asks every 20 ms until there is no error; after so long the last one is returned.
func within(ctx context.Context, d time.Duration, ask func() error) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	for {
		err := ask()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited for %s: %w", d, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
