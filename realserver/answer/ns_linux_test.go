package answer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"tunneldirector/director/agent"
	"tunneldirector/integration/spaces"
	"tunneldirector/realserver/space"
)

// A host is a network namespace of a test.
type host struct {
	t    testing.TB
	ns   netns.NsHandle
	link *netlink.Handle
}

func newHost(t testing.TB) *host {
	t.Helper()
	spaces.Root(t)
	h := &host{t: t}
	apart(t, func() error {
		var err error
		h.ns, err = netns.New()
		return err
	})
	t.Cleanup(func() { h.ns.Close() })
	h.open()
	return h
}

func (h *host) open() {
	h.t.Helper()
	var err error
	h.link, err = netlink.NewHandleAt(h.ns)
	must(h.t, err)
	h.t.Cleanup(h.link.Close)
	h.up("lo", true)
}

// apart runs f on a thread that ends with it.
func apart(t testing.TB, f func() error) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		done <- f()
	}()
	must(t, <-done)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// space is how code under test gets into h.
func (h *host) space() space.Space { return space.Space(fmt.Sprintf("/proc/self/fd/%d", h.ns)) }

func (h *host) up(name string, up bool) {
	h.t.Helper()
	l, err := h.link.LinkByName(name)
	must(h.t, err)
	if up {
		must(h.t, h.link.LinkSetUp(l))
	} else {
		must(h.t, h.link.LinkSetDown(l))
	}
}

func (h *host) address(name, prefix string, there bool) {
	h.t.Helper()
	l, err := h.link.LinkByName(name)
	must(h.t, err)
	a, err := netlink.ParseAddr(prefix)
	must(h.t, err)
	if a.IP.To4() == nil {
		a.Flags = unix.IFA_F_NODAD
	}
	if there {
		must(h.t, h.link.AddrAdd(l, a))
	} else {
		must(h.t, h.link.AddrDel(l, a))
	}
}

func wire(t testing.TB, a *host, aName string, b *host, bName string) {
	t.Helper()
	must(t, a.link.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: aName}, PeerName: bName, PeerNamespace: netlink.NsFd(b.ns)}))
	a.up(aName, true)
	b.up(bName, true)
}

// lab is a director that reaches a real server by eth0, as under dr, and another one by a device that stands for decapsulation.
func lab(t testing.TB) (dir, rs *host) {
	t.Helper()
	dir, rs = newHost(t), newHost(t)
	wire(t, dir, "rs0", rs, "eth0")
	wire(t, dir, "rs1", rs, "decap0")
	join(dir, rs)
	rs.address("lo", "198.51.100.1/32", true)
	rs.address("lo", "2001:db8:1::1/128", true)
	return dir, rs
}

func join(dir, rs *host) {
	for name, n := range map[string]string{"rs0": "1", "rs1": "2"} {
		dir.address(name, "192.0."+n+".1/24", true)
		dir.address(name, "2001:db8::"+n+":1/112", true)
	}
	for name, n := range map[string]string{"eth0": "1", "decap0": "2"} {
		rs.address(name, "192.0."+n+".11/24", true)
		rs.address(name, "2001:db8::"+n+":11/112", true)
	}
	dir.by("rs0")
}

// by makes all packets to the VIPs leave by one of the director's interfaces.
func (h *host) by(name string) {
	h.t.Helper()
	l, err := h.link.LinkByName(name)
	must(h.t, err)
	n := map[string]string{"rs0": "1", "rs1": "2"}[name]
	for dst, via := range map[string]string{"198.51.100.1/32": "192.0." + n + ".11", "2001:db8:1::1/128": "2001:db8::" + n + ":11"} {
		_, to, err := net.ParseCIDR(dst)
		must(h.t, err)
		must(h.t, h.link.RouteReplace(&netlink.Route{Dst: to, Gw: net.ParseIP(via), LinkIndex: l.Attrs().Index, Flags: int(netlink.FLAG_ONLINK)}))
	}
}

// start answers until the test ends.
func start(t testing.TB, o Options) *Responder {
	t.Helper()
	o.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	if o.VIPs == nil {
		o.VIPs = []netip.Addr{vip4, vip6}
	}
	if o.Method == "" {
		o.Method = "dr"
	}
	o.Devices = append(o.Devices, "decap0")
	r, err := Open(o)
	must(t, err)
	r.Set(map[string]State{"rs1": {Health: agent.HealthWorking, Tunnels: 7}})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		must(t, <-done)
	})
	return r
}

// An asker is a director's UDP socket.
type asker struct {
	t    testing.TB
	conn *net.UDPConn
	to   netip.AddrPort
	n    byte
}

func (h *host) ask(vip netip.Addr, ttl int) *asker {
	h.t.Helper()
	level, opt := unix.SOL_IP, unix.IP_TTL
	if vip.Is6() {
		level, opt = unix.SOL_IPV6, unix.IPV6_UNICAST_HOPS
	}
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		return errors.Join(raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), level, opt, ttl) }), err)
	}}
	a := &asker{t: h.t, to: netip.AddrPortFrom(vip, agent.DefaultProbe)}
	must(h.t, h.space().Do(func() error {
		p, err := lc.ListenPacket(context.Background(), "udp", map[bool]string{true: "0.0.0.0:0", false: "[::]:0"}[vip.Is4()])
		if err == nil {
			a.conn = p.(*net.UDPConn)
		}
		return err
	}))
	h.t.Cleanup(func() { a.conn.Close() })
	return a
}

// patience is how long nothing has to come until nothing will.
const patience = 300 * time.Millisecond

// answer sends a datagram and waits for what comes back, from where it has to come.
func (a *asker) answer(question []byte, wait time.Duration) (agent.Answer, error) {
	a.t.Helper()
	if _, err := a.conn.WriteToUDPAddrPort(question, a.to); err != nil {
		return agent.Answer{}, err
	}
	buf := make([]byte, 2048)
	must(a.t, a.conn.SetReadDeadline(time.Now().Add(wait)))
	n, from, err := a.conn.ReadFromUDPAddrPort(buf)
	for err == nil && n >= 20 && len(question) >= 20 && !bytes.Equal(buf[4:20], question[4:20]) { // to a question before
		n, from, err = a.conn.ReadFromUDPAddrPort(buf)
	}
	if err != nil {
		return agent.Answer{}, err
	}
	if from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port()); from != a.to || n > len(question) {
		a.t.Fatalf("%d bytes from %v, asked by %d bytes at %v", n, from, len(question), a.to)
	}
	return agent.ParseAnswer(buf[:n])
}

// question is a fresh one about rs1.
func (a *asker) question() ([]byte, agent.Nonce) {
	a.n++
	nonce := agent.Nonce{a.n, 1}
	return agent.AppendProbe(nil, nonce, "rs1"), nonce
}

// now asks once: the question is answered, though a busy machine may take its time.
func (a *asker) now() agent.Answer {
	a.t.Helper()
	q, _ := a.question()
	got, err := a.answer(q, 5*time.Second)
	must(a.t, err)
	return got
}

// heard asks until there is an answer: something has to come back first.
func (a *asker) heard(within time.Duration) agent.Answer {
	a.t.Helper()
	for from := time.Now(); ; {
		q, _ := a.question()
		got, err := a.answer(q, patience)
		switch {
		case err == nil:
			return got
		case time.Since(from) > within:
			a.t.Fatalf("no answer within %v: %v", within, err)
		case !errors.Is(err, os.ErrDeadlineExceeded):
			time.Sleep(patience / 10)
		}
	}
}

// silent asks once, and wants nothing to come back.
func (a *asker) silent(what string, question []byte) {
	a.t.Helper()
	if got, err := a.answer(question, patience); !errors.Is(err, os.ErrDeadlineExceeded) {
		a.t.Errorf("%s: %+v, %v", what, got, err)
	}
}
