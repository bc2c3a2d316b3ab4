package host

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// variants are what apply and revert are tried with.
func variants(s site) map[string]Instance {
	out := map[string]Instance{}
	add := func(name string, change func(*Instance)) {
		in := s.instance()
		change(&in)
		out[name] = in
	}
	add("both families", func(*Instance) {})
	add("IPv4 alone", func(in *Instance) { in.VIPs = []netip.Addr{vip4} })
	add("IPv6 alone", func(in *Instance) { in.VIPs = []netip.Addr{vip6} })
	add("MSS", func(in *Instance) { in.MSS = 1200 })
	add("gateways and a mark", func(in *Instance) {
		in.Via, in.Mark, in.ShareL2 = []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}, 7, true
		in.MSS = 1300
	})
	return out
}

func only(changes []Change, left bool) (out []Change) {
	for _, c := range changes {
		if c.Left == left {
			out = append(out, c)
		}
	}
	return out
}

func TestApplyRevert(t *testing.T) {
	s := newSite(t)
	s.rs.set("net/ipv4/conf/all/rp_filter", "1")
	s.rs.set("net/ipv4/conf/eth1/forwarding", "1") // and ip_forward is 0
	s.rs.set("net/ipv4/conf/all/accept_redirects", "0")
	before := s.rs.snapshot()
	for name, in := range variants(s) {
		t.Run(name, func(t *testing.T) {
			h := s.host(t, in)
			planned, err := h.Plan(t.Context())
			must(t, err)
			if diff := cmp.Diff(before, s.rs.snapshot()); diff != "" {
				t.Fatalf("Plan touched the host:\n%s", diff)
			}
			done, err := h.Apply(t.Context())
			must(t, err)
			for _, c := range done {
				if len(c.From) > 40 || c.Why == "" || c.Space != s.rs.ns {
					t.Errorf("%+v: is not for people", c)
				}
			}
			if diff := cmp.Diff(planned, done); diff != "" || len(done) == 0 {
				t.Errorf("Apply did not as Plan said:\n%s", diff)
			}
			for _, vip := range in.VIPs {
				// The kernel is to choose it for nothing by itself.
				want := map[bool]string{false: vip.String() + "/32 scope host", true: vip.String() + "/128 scope global nodad deprecated"}[vip.Is6()]
				if out := s.rs.ip("address show dev lo"); !strings.Contains(out, want) {
					t.Errorf("want %s on lo:\n%s", want, out)
				}
			}
			if again, err := h.Apply(t.Context()); err != nil || len(again) > 0 {
				t.Errorf("Apply a second time: %v, %v", again, err)
			}
			if st, err := os.Stat(s.file); err != nil || st.Mode().Perm() != 0o600 {
				t.Errorf("state file: %v, %v", st, err)
			}
			_, err = s.host(t).Revert(t.Context()) // the state file says it all
			must(t, err)
			if diff := cmp.Diff(before, s.rs.snapshot()); diff != "" {
				t.Errorf("Revert did not bring back what was there:\n%s", diff)
			}
			if _, err := os.Stat(s.file); err == nil {
				t.Error("the state file is left")
			}
		})
	}
}

// Apply that is killed between any two steps leaves what Revert understands, and what Apply takes up again.
func TestApplyKilled(t *testing.T) {
	s := newSite(t)
	before := s.rs.snapshot()
	in := variants(s)["gateways and a mark"]
	h := s.host(t, in)
	for n, killed := 0, true; killed; n++ {
		looks := n
		_, err := h.Apply(dying{t.Context(), &looks})
		killed = errors.Is(err, context.Canceled)
		if err != nil && !killed {
			t.Fatal(err)
		}
		if n%3 == 0 {
			_, err = h.Apply(t.Context())
			must(t, err)
		}
		changes, err := h.Revert(t.Context())
		must(t, err)
		if diff := cmp.Diff(before, s.rs.snapshot()); diff != "" || len(only(changes, true)) > 0 {
			t.Fatalf("killed after %d steps, Revert said %v and left:\n%s", n, only(changes, true), diff)
		}
		if n > 200 {
			t.Fatal("Apply never ends")
		}
	}
}

// TestApplyThereAndBack: of a configuration of which only a part was applied nothing is left once the one before it is applied again.
func TestApplyThereAndBack(t *testing.T) {
	s := newSite(t)
	first, second := s.instance(), s.instance()
	second.VIPs, second.MSS = []netip.Addr{vip4, netip.MustParseAddr("192.0.2.101")}, 1200
	second.Via = []netip.Addr{netip.MustParseAddr("192.0.2.1")}
	h := s.host(t, first)
	_, err := h.Apply(t.Context())
	must(t, err)
	before := s.rs.snapshot()
	for n, killed := 0, true; killed; n++ {
		looks := n
		_, err := s.host(t, second).Apply(dying{t.Context(), &looks})
		killed = errors.Is(err, context.Canceled)
		if err != nil && !killed {
			t.Fatal(err)
		}
		_, err = h.Apply(t.Context())
		must(t, err)
		if diff := cmp.Diff(before, s.rs.snapshot()); diff != "" {
			t.Fatalf("after %d steps of another configuration, and back:\n%s", n, diff)
		}
		if changes, err := h.Plan(t.Context()); err != nil || len(changes) > 0 {
			t.Fatalf("after %d steps of another configuration, and back, there is more to do: %v, %v", n, changes, err)
		}
		if n > 200 {
			t.Fatal("Apply never ends")
		}
	}
}

// Revert that is killed is taken up by the next one.
func TestRevertKilled(t *testing.T) {
	s := newSite(t)
	before := s.rs.snapshot()
	h := s.host(t, s.instance())
	_, err := h.Apply(t.Context())
	must(t, err)
	for err = context.Canceled; errors.Is(err, context.Canceled); {
		looks := 1
		_, err = h.Revert(dying{t.Context(), &looks})
	}
	must(t, err)
	if diff := cmp.Diff(before, s.rs.snapshot()); diff != "" {
		t.Fatalf("Revert left:\n%s", diff)
	}
}

// Nobody hears of the VIP: no answer to a request for it, no request with it as the sender, while its packets are taken.
func TestApplySilence(t *testing.T) {
	s := newSite(t)
	in := s.instance()
	in.Via = []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}
	ask := func(vip netip.Addr) (n int) {
		s.router.in(func(v *view) error {
			sender := netip.MustParseAddr("192.0.2.1")
			if vip.Is6() {
				sender = netip.MustParseAddr("2001:db8::1")
			}
			macs, err := whoHas(t.Context(), "rs0", []query{{vip, sender}}, 500*time.Millisecond)
			if err == nil {
				n = len(macs[0])
			}
			return err
		})
		return n
	}
	s.rs.ip("address add 192.0.2.100/32 dev lo\naddress add 2001:db8::100/128 dev eth0 nodad\n")
	if ask(vip4) != 1 || ask(vip6) != 1 {
		t.Fatal("an unprepared host does not answer: the test shows nothing")
	}
	s.rs.ip("address del 192.0.2.100/32 dev lo\naddress del 2001:db8::100/128 dev eth0\n")
	h := s.host(t, in)
	_, err := h.Apply(t.Context())
	must(t, err)
	for _, vip := range in.VIPs {
		if n := ask(vip); n > 0 {
			t.Errorf("%v: %d answers", vip, n)
		}
		s.reaches(t, vip)
	}
	if out := s.router.ip("neigh show dev rs0"); strings.Contains(out, vip4.String()) || strings.Contains(out, vip6.String()) {
		t.Errorf("the router knows a VIP as its neighbour:\n%s", out)
	}
}

// reaches sends a datagram as the director does, to the host's MAC, and hears the reply.
func (s site) reaches(t *testing.T, vip netip.Addr) {
	t.Helper()
	var server, client *net.UDPConn
	s.rs.in(func(*view) (err error) {
		server, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(vip, 4500)))
		return err
	})
	defer server.Close()
	// The router stands for the director: it has a route to the VIP by the real server's own address.
	own := "192.0.2.10"
	if vip.Is6() {
		own = "2001:db8::10"
	}
	s.router.ip("route replace " + vip.String() + " via " + own + " dev rs0\n")
	s.router.in(func(*view) (err error) {
		client, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(vip, 4500)))
		return err
	})
	defer client.Close()
	end := time.Now().Add(5 * time.Second)
	must(t, errors.Join(server.SetDeadline(end), client.SetDeadline(end)))
	_, err := client.Write([]byte("x"))
	must(t, err)
	b := make([]byte, 9)
	n, from, err := server.ReadFromUDPAddrPort(b)
	if err != nil {
		t.Fatalf("%v: %v", vip, err)
	}
	s.rs.ip("neigh flush dev eth0\n") // the reply has to ask for its next hop
	_, err = server.WriteToUDPAddrPort(b[:n], from)
	must(t, err)
	if _, err := client.Read(b); err != nil {
		t.Errorf("%v: no reply: %v", vip, err)
	}
}

// What was there before, or was changed by somebody else, is not ours.
func TestOthersStay(t *testing.T) {
	s := newSite(t)
	s.rs.ip("address add 192.0.2.100/32 dev lo\n")
	before := s.rs.snapshot()
	h := s.host(t, s.instance())
	changes, err := h.Apply(t.Context())
	must(t, err)
	if left := only(changes, true); len(left) != 1 || left[0].Object != "address 192.0.2.100 on lo" {
		t.Errorf("left: %v", left)
	}
	s.rs.set("net/ipv4/conf/eth0/arp_announce", "1")
	changes, err = h.Revert(t.Context())
	must(t, err)
	left := only(changes, true)
	if len(left) != 1 || left[0].Object != "sysctl net.ipv4.conf.eth0.arp_announce" || !strings.Contains(left[0].Why, `"0" before`) {
		t.Errorf("left: %v", left)
	}
	if got := s.rs.get("net/ipv4/conf/eth0/arp_announce"); got != "1" {
		t.Errorf("what somebody set is %s", got)
	}
	s.rs.set("net/ipv4/conf/eth0/arp_announce", "0")
	if diff := cmp.Diff(before, s.rs.snapshot()); diff != "" {
		t.Errorf("Revert left:\n%s", diff)
	}
}

// Apply mends what somebody broke; the value from before the first Apply is the one to go back to.
func TestApplyMends(t *testing.T) {
	s := newSite(t)
	before := s.rs.snapshot()
	in := s.instance()
	h := s.host(t, in)
	_, err := h.Apply(t.Context())
	must(t, err)
	s.rs.ip("address del 192.0.2.100/32 dev lo\n")
	s.rs.set("net/ipv4/conf/eth0/arp_ignore", "0")
	changes, err := h.Apply(t.Context())
	if err != nil || len(changes) != 2 {
		t.Errorf("mended: %v, %v", changes, err)
	}
	in.Method, in.VIPs = DR, []netip.Addr{vip4, netip.MustParseAddr("192.0.2.101")} // not vip6
	changes, err = s.host(t, in).Apply(t.Context())
	must(t, err)
	if out := s.rs.ip("address show dev lo"); strings.Contains(out, vip6.String()) || !strings.Contains(out, "192.0.2.101/32") {
		t.Errorf("after another configuration: %v\n%s", changes, out)
	}
	_, err = h.Revert(t.Context())
	must(t, err)
	if diff := cmp.Diff(before, s.rs.snapshot()); diff != "" {
		t.Errorf("Revert left:\n%s", diff)
	}
}

// Two real servers, each in a namespace; one namespace goes and comes back.
func TestSpaces(t *testing.T) {
	s := newSite(t)
	a, b := s.instance(), s.instance()
	b.Name, b.Space, b.Interface = "rs2", s.inner.ns, "rs1"
	b.VIPs = []netip.Addr{vip4}
	beforeA, beforeB := s.rs.snapshot(), s.inner.snapshot()
	_, err := s.host(t, a, b).Apply(t.Context())
	must(t, err)
	if got := s.inner.get("net/ipv4/conf/rs1/arp_ignore"); got != "1" {
		t.Errorf("arp_ignore in the other namespace: %s", got)
	}
	b.Interface = "absent"
	if _, err := s.host(t, a, b).Apply(t.Context()); err == nil || !strings.Contains(err.Error(), "real server rs2: there is no interface absent") {
		t.Errorf("with an interface that is not there: %v", err)
	}
	if got := s.inner.get("net/ipv4/conf/rs1/arp_ignore"); got != "1" {
		t.Errorf("what was set for a real server that cannot be planned now was put back: %s", got)
	}
	_, err = s.host(t).Revert(t.Context())
	must(t, err)
	if diff := cmp.Diff([][]string{beforeA, beforeB}, [][]string{s.rs.snapshot(), s.inner.snapshot()}); diff != "" {
		t.Errorf("Revert left:\n%s", diff)
	}
	b.Interface = "lo0"
	b.Space = "tdhost-absent"
	if _, err := s.host(t, b).Plan(t.Context()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a namespace that is not there: %v", err)
	}
}

// What a namespace's earlier life was like says nothing of this one.
func TestNewLife(t *testing.T) {
	s := newSite(t)
	_, err := s.host(t, s.instance()).Apply(t.Context())
	must(t, err)
	st, err := loadState(s.file)
	must(t, err)
	st.Lives[string(s.rs.ns)] = "another"
	must(t, st.save(s.file))
	if changes, err := s.host(t).Revert(t.Context()); err != nil || len(changes) > 0 {
		t.Errorf("Revert of another life: %v, %v", changes, err)
	}
}

// Who lost the state file owns nothing any more; what is there still serves.
func TestStateLost(t *testing.T) {
	s := newSite(t)
	in := variants(s)["gateways and a mark"]
	_, err := s.host(t, in).Apply(t.Context())
	must(t, err)
	applied := s.rs.snapshot()
	must(t, os.Remove(s.file))
	changes, err := s.host(t, in).Apply(t.Context())
	must(t, err)
	if left := only(changes, true); len(left) == 0 || len(left) != len(changes) || !slices.ContainsFunc(left, func(c Change) bool { return strings.HasPrefix(c.Object, "rule") }) {
		t.Errorf("Apply: %v", changes)
	}
	_, err = s.host(t).Revert(t.Context())
	must(t, err)
	if diff := cmp.Diff(applied, s.rs.snapshot()); diff != "" {
		t.Errorf("Revert took what is nobody's:\n%s", diff)
	}
}

func TestRefusals(t *testing.T) {
	s := newSite(t)
	h := s.host(t, s.instance())
	must(t, os.WriteFile(s.file, []byte("{"), 0o600))
	for name, f := range map[string]func(context.Context) ([]Change, error){"plan": h.Plan, "apply": h.Apply, "revert": h.Revert} {
		if _, err := f(t.Context()); err == nil || !strings.Contains(err.Error(), s.file) {
			t.Errorf("%s with a state file that cannot be read: %v", name, err)
		}
	}
	must(t, os.Remove(s.file))
	_, err := h.locked(func(*state) ([]Change, error) {
		_, err := h.Apply(t.Context())
		return nil, err
	})
	if err == nil || !strings.Contains(err.Error(), "another program") {
		t.Errorf("two at once: %v", err)
	}
	in := s.instance()
	in.Holder = "eth1"
	_, err = s.host(t, in).Apply(t.Context())
	must(t, err) // a device that is there will do
	_, err = s.host(t).Revert(t.Context())
	must(t, err)
	if out := s.rs.ip("link show"); !strings.Contains(out, "eth1") {
		t.Error("Revert removed a device that it had not made")
	}
}

// A real server in a namespace of its own, behind this one's, which has the VIP, too: its replies pass.
func TestLodger(t *testing.T) {
	s := newSite(t)
	s.rs.set("net/ipv4/conf/eth1/rp_filter", "1")
	s.inner.ip("route add default via 10.9.0.10\n")
	before := s.rs.snapshot()
	a, b := s.instance(), s.instance()
	b.Name, b.Space, b.Interface, b.VIPs = "rs2", s.inner.ns, "rs1", []netip.Addr{vip4}
	h := s.host(t, a, b)
	_, err := h.Apply(t.Context())
	must(t, err)
	var at, from *net.UDPConn
	s.router.in(func(*view) (err error) {
		at, err = net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 4500})
		return err
	})
	defer at.Close()
	s.inner.in(func(*view) (err error) {
		from, err = net.DialUDP("udp", &net.UDPAddr{IP: vip4.AsSlice(), Port: 4500}, &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 4500})
		return err
	})
	defer from.Close()
	passes := func() bool {
		_, err := from.Write([]byte("x"))
		must(t, err)
		must(t, at.SetReadDeadline(time.Now().Add(time.Second)))
		_, err = at.Read(make([]byte, 9))
		return err == nil
	}
	if !passes() {
		t.Error("the reply did not pass")
	}
	s.rs.set("net/ipv4/conf/eth1/accept_local", "0")
	if passes() {
		t.Error("it passes without accept_local, too: that is not needed")
	}
	if got := ids(t, h); !slices.Equal(got, []string{"vip-source-refused"}) {
		t.Errorf("found %v", got)
	}
	s.rs.set("net/ipv4/conf/eth1/accept_local", "1")
	_, err = h.Revert(t.Context())
	must(t, err)
	if diff := cmp.Diff(before, s.rs.snapshot()); diff != "" {
		t.Errorf("Revert left:\n%s", diff)
	}
}

// An interface that has its routes by router advertisements goes on to hear them.
func TestRouterAdvertisements(t *testing.T) {
	s := newSite(t)
	s.rs.ip("-6 route add 2001:db8:77::/64 via 2001:db8::1 dev eth0 proto ra\n")
	before := s.rs.snapshot()
	h := s.host(t, s.instance())
	_, err := h.Apply(t.Context())
	must(t, err)
	if a, b := s.rs.get("net/ipv6/conf/eth0/accept_ra"), s.rs.get("net/ipv6/conf/eth1/accept_ra"); a != "2" || b != "1" {
		t.Errorf("accept_ra: %s on eth0, %s on eth1", a, b)
	}
	s.rs.ip("-6 route del 2001:db8:77::/64\n") // as of a router that is away for a while
	if changes, err := h.Apply(t.Context()); err != nil || len(changes) > 0 {
		t.Errorf("Apply a second time: %v, %v", changes, err)
	}
	s.rs.ip("-6 route add 2001:db8:77::/64 via 2001:db8::1 dev eth0 proto ra\n")
	_, err = h.Revert(t.Context())
	must(t, err)
	if diff := cmp.Diff(before, s.rs.snapshot()); diff != "" {
		t.Errorf("Revert left:\n%s", diff)
	}
}

func BenchmarkApplyAgain(b *testing.B) {
	s := newSite(b)
	h := s.host(b, s.instance())
	_, err := h.Apply(b.Context())
	must(b, err)
	b.ResetTimer()
	for b.Loop() {
		if changes, err := h.Apply(b.Context()); err != nil || len(changes) > 0 {
			b.Fatal(changes, err)
		}
	}
}
