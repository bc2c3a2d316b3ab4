package inject

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/moby/ipvs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
	"tunneldirector/director/plane/ipvs/conntab"
)

// inKernel is inNamespace with IPVS. Such tests are not parallel: the table is one for all namespaces, so that what one test
// does to it makes another one's reading of its part miss entries or see them twice.
func inKernel(t *testing.T) *ipvs.Handle {
	t.Helper()
	inNamespace(t)
	k, err := openControl()
	switch {
	case err == nil:
		k.Close()
	case errors.Is(err, plane.ErrUnsupported) && os.Getenv("TUNNELDIRECTOR_VM") == "":
		t.Skip(err)
	case !errors.Is(err, plane.ErrUnsupported):
		t.Fatal(err)
	}
	h, err := ipvs.New("") // which loads the module
	must(t, err)
	t.Cleanup(h.Close)
	return h
}

func openKernel(t *testing.T, o Options) *Link {
	t.Helper()
	if o.Seal == nil {
		o.Seal = unsealed
	}
	l, err := Open(o)
	must(t, err)
	t.Cleanup(func() { must(t, l.Close()) })
	return l
}

// addService makes a service of UDP with destinations, none of which takes new connections.
func addService(t testing.TB, h *ipvs.Handle, vip netip.AddrPort, dests ...netip.AddrPort) *ipvs.Service {
	t.Helper()
	s := &ipvs.Service{Protocol: unix.IPPROTO_UDP, Address: vip.Addr().AsSlice(), Port: vip.Port(), SchedName: "rr", AddressFamily: unix.AF_INET, Netmask: 0xffffffff}
	if vip.Addr().Is6() {
		s.AddressFamily, s.Netmask = unix.AF_INET6, 128
	}
	if err := h.NewService(s); err != nil {
		t.Fatal(err)
	}
	for _, d := range dests {
		if err := h.NewDestination(s, &ipvs.Destination{Address: d.Addr().AsSlice(), Port: d.Port(), ConnectionFlags: ipvs.ConnectionFlagDirectRoute, AddressFamily: s.AddressFamily}); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// table reads the connection table, by client and VIP. Of two entries for one key the first read is the newer, and counts.
func table(t *testing.T) map[[2]netip.AddrPort]conntab.Entry {
	t.Helper()
	all := map[[2]netip.AddrPort]conntab.Entry{}
	for e, err := range conntab.Read() {
		must(t, err)
		if key := [2]netip.AddrPort{e.Client, e.VIP}; all[key] == (conntab.Entry{}) {
			all[key] = e
		}
	}
	return all
}

// wanted is the table that conns make.
func wanted(conns ...Conn) map[[2]netip.AddrPort]conntab.Entry {
	all := map[[2]netip.AddrPort]conntab.Entry{}
	for _, c := range conns {
		all[[2]netip.AddrPort{c.Client, c.VIP}] = conntab.Entry{Protocol: 17, Client: c.Client, VIP: c.VIP, Dest: c.Dest, State: "UDP", Synced: true, Expires: c.Timeout}
	}
	return all
}

// compareTables reads the table until it is as wanted: what was replaced may linger.
func compareTables(t *testing.T, what string, want map[[2]netip.AddrPort]conntab.Entry) {
	t.Helper()
	closeTo := cmp.Comparer(func(a, b time.Duration) bool { return (a - b).Abs() <= LingerTime+time.Minute/2 })
	for end := time.Now().Add(LingerTime + 10*time.Second); ; time.Sleep(10 * time.Millisecond) {
		diff := cmp.Diff(want, table(t), compare, closeTo, cmpopts.EquateEmpty())
		if diff == "" {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: %s", what, diff)
		}
	}
}

// TestKernel: what is sent is in the table, with its timer; again and it has a new timer; elsewhere and it is re-pointed.
func TestKernel(t *testing.T) {
	h := inKernel(t)
	vip4, vip6 := at("198.51.100.1:500"), at("[2001:db8:1::1]:500")
	a4, b4, a6 := at("10.0.0.2:7"), at("10.0.0.3:7"), at("[fd00::2]:7")
	s4 := addService(t, h, vip4, a4, b4)
	addService(t, h, vip6, a6)
	l := openKernel(t, Options{})
	all := []Conn{
		{at("203.0.113.5:41641"), vip4, a4, affinity.DR, time.Hour},
		{at("203.0.113.5:0"), vip4, a4, affinity.DR, 2 * time.Hour},
		{at("203.0.113.6:0"), vip4, b4, affinity.DR, 12 * time.Hour},
		{at("[2001:db8::5]:0"), vip6, a6, affinity.DR, 24 * time.Hour},
		{at("[2001:db8::5]:500"), at("[2001:db8:1::1]:4500"), at("[fd00::9]:1"), affinity.IPIP, 24 * time.Hour}, // no service knows it
	}
	must(t, l.Send(t.Context(), all))
	compareTables(t, "new", wanted(all...))
	all[0].Timeout, all[3].Timeout = 3*time.Hour, time.Hour
	must(t, l.Send(t.Context(), all[:4]))
	compareTables(t, "again", wanted(all...))

	all[1].Dest, all[2].Dest = b4, a4
	must(t, l.Send(t.Context(), all[:3]))
	compareTables(t, "elsewhere", wanted(all...))
	counted(t, h, s4, map[string]int{"10.0.0.2": 2, "10.0.0.3": 1}) // nothing lingers, or the table would have it
}

// TestKernelWildcard holds the kernel to what Conn's text says of exact entries and those for any port.
func TestKernelWildcard(t *testing.T) {
	h := inKernel(t)
	vip, a, b := at("198.51.100.1:500"), at("10.0.0.2:7"), at("10.0.0.3:7")
	addService(t, h, vip, a, b)
	l := openKernel(t, Options{})
	wild := Conn{at("203.0.113.5:0"), vip, a, affinity.DR, time.Hour}
	exact := Conn{at("203.0.113.5:4500"), vip, b, affinity.DR, time.Hour}
	must(t, l.Send(t.Context(), []Conn{exact, wild}))
	compareTables(t, "the exact one first", wanted(exact, wild))

	wild.Client, exact.Client = at("203.0.113.6:0"), at("203.0.113.6:4500")
	elsewhere := wanted(Conn{at("203.0.113.5:0"), vip, a, affinity.DR, time.Hour}, Conn{at("203.0.113.5:4500"), vip, b, affinity.DR, time.Hour})
	must(t, l.Send(t.Context(), []Conn{wild, exact}))
	for k, e := range wanted(exact) {
		elsewhere[k] = e
	}
	compareTables(t, "the exact one last removes the other", elsewhere)
}

// TestKernelEnds: an entry of a second is gone after it.
func TestKernelEnds(t *testing.T) {
	h := inKernel(t)
	addService(t, h, at("198.51.100.1:500"))
	l := openKernel(t, Options{})
	must(t, l.Send(t.Context(), []Conn{{at("203.0.113.5:0"), at("198.51.100.1:500"), at("10.0.0.2:7"), affinity.DR, time.Second}}))
	for end := time.Now().Add(10 * time.Second); len(table(t)) > 0; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it is there after 10 s")
		}
	}
}

// startOther starts a daemon as keepalived would.
func startOther(t *testing.T, k *control, state uint32) {
	t.Helper()
	_, err := k.change(cmdNewDaemon, daemon{state, "sync0", 51}).Execute(unix.NETLINK_GENERIC, 0)
	must(t, err)
}

// TestKernelDaemons: of ours is replaced, of another is left alone and told of.
func TestKernelDaemons(t *testing.T) {
	inKernel(t)
	crashed, err := Open(Options{Seal: unsealed, SyncID: 7})
	must(t, err)
	l, err := Open(Options{Seal: unsealed})
	must(t, err)
	must(t, l.Send(t.Context(), conns(10)))
	if got := len(table(t)); got != 10 {
		t.Errorf("%d entries, want 10", got)
	}
	must(t, errors.Join(crashed.witness.Close(), unix.Close(crashed.sender), crashed.gauge.file.Close()))

	must(t, l.Close())
	k, err := openControl()
	must(t, err)
	defer k.Close()
	all, err := k.daemons()
	must(t, err)
	if _, err := net.InterfaceByName(Interface); len(all) > 0 || err == nil {
		t.Errorf("after Close: daemons %v, interface there: %t", all, err == nil)
	}

	sync0 := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "sync0"}, PeerName: "sync1"}
	must(t, netlink.LinkAdd(sync0))
	addr, err := netlink.ParseAddr("192.0.2.1/24")
	must(t, err)
	must(t, netlink.AddrAdd(sync0, addr)) // without which the kernel starts no sender
	up(t, "sync0")
	for _, state := range []uint32{stateBackup, statePrimary} {
		startOther(t, k, state)
		if _, err := Open(Options{Seal: unsealed}); !errors.Is(err, ErrForeign) {
			t.Errorf("got %v, want %v", err, ErrForeign)
		} else {
			t.Log(err)
		}
		all, err = k.daemons()
		must(t, err)
		if diff := cmp.Diff([]daemon{{state, "sync0", 51}}, all, cmp.AllowUnexported(daemon{})); diff != "" {
			t.Errorf("the other's daemon: %s", diff)
		}
		// Most of these are stopped before they have run, for which the kernel gives no answer.
		for range 50 {
			left, err := k.remove(daemon{state: state})
			if err != nil || len(left) > 0 {
				t.Fatalf("after its end there are daemons %v, %v", left, err)
			}
			startOther(t, k, state)
		}
		_, err = k.remove(daemon{state: state})
		must(t, err)
	}
	l, err = Open(Options{Seal: unsealed})
	must(t, err)
	must(t, l.Close())
}
