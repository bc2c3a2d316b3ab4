package shadow

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/ipvs"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
	"tunneldirector/director/plane/ipvs/conntab"
)

// namespaces makes one for sites and one for a director, leaves the goroutine in the latter, and returns the former. A veth
// joins them: the sites have 203.0.113.1 to .3 on it, the director the VIP and 10.0.0.1.
func namespaces(t *testing.T) netns.NsHandle {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("not root: no network namespaces")
		}
		t.Skip("not root: no network namespaces")
	}
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	sites, err := netns.New()
	must(t, err)
	t.Cleanup(func() { sites.Close() })
	director, err := netns.New()
	must(t, err)
	t.Cleanup(func() { director.Close() })
	must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "eth0", PeerNamespace: netlink.NsFd(sites)}))
	raise(t, "lo", vip+"/32")
	raise(t, "eth0", "10.0.0.1/24", "203.0.113.254/24")
	must(t, netns.Set(sites))
	raise(t, "eth0", "203.0.113.1/24", "203.0.113.2/24", "203.0.113.3/24", "10.0.0.2/24", "10.0.0.3/24")
	eth0, err := netlink.LinkByName("eth0")
	must(t, err)
	must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: eth0.Attrs().Index, Dst: &net.IPNet{IP: net.ParseIP(vip), Mask: net.CIDRMask(32, 32)}, Gw: net.ParseIP("203.0.113.254")}))
	must(t, netns.Set(director))
	return sites
}

func raise(t *testing.T, name string, addresses ...string) {
	t.Helper()
	link, err := netlink.LinkByName(name)
	must(t, err)
	for _, s := range addresses {
		a, err := netlink.ParseAddr(s)
		must(t, err)
		must(t, netlink.AddrAdd(link, a))
	}
	must(t, netlink.LinkSetUp(link))
}

// balance makes a persistent service of IPVS with two real servers, as an operator does.
func balance(t *testing.T, port uint16) {
	t.Helper()
	h, err := ipvs.New("")
	must(t, err)
	defer h.Close()
	s := &ipvs.Service{Protocol: unix.IPPROTO_UDP, Address: net.ParseIP(vip).To4(), Port: port, SchedName: "rr", Flags: 1, Timeout: 300, AddressFamily: unix.AF_INET, Netmask: 0xffffffff}
	must(t, h.NewService(s))
	for _, a := range []string{"10.0.0.2", "10.0.0.3"} {
		must(t, h.NewDestination(s, &ipvs.Destination{Address: net.ParseIP(a).To4(), Port: port, Weight: 1, ConnectionFlags: ipvs.ConnectionFlagDirectRoute, AddressFamily: unix.AF_INET}))
	}
}

// dial sends a packet from a site to the VIP, and waits until IPVS has learned of it. It returns where that leads.
func dial(t *testing.T, sites netns.NsHandle, from netip.AddrPort) netip.Addr {
	t.Helper()
	director, err := netns.Get()
	must(t, err)
	defer director.Close()
	must(t, netns.Set(sites))
	c, err := net.DialUDP("udp", net.UDPAddrFromAddrPort(from), net.UDPAddrFromAddrPort(at(vip+":500")))
	must(t, err)
	_, err = c.Write([]byte("hello"))
	must(t, errors.Join(err, c.Close(), netns.Set(director)))
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		for e, err := range conntab.Read() {
			must(t, err)
			if e.Client == from {
				return e.Dest.Addr()
			}
		}
	}
	t.Fatalf("IPVS has learned nothing of %v", from)
	return netip.Addr{}
}

// TestKernel audits an IPVS that was set up by hand and has learned from packets.
func TestKernel(t *testing.T) {
	sites := namespaces(t)
	roles := []plane.Interface{{Name: "eth0", Roles: plane.RoleTunnel}}
	if _, err := Open(roles); errors.Is(err, plane.ErrUnsupported) && os.Getenv("TUNNELDIRECTOR_VM") == "" {
		t.Skip(err)
	}
	balance(t, 500) // which loads the module
	p, err := Open(roles)
	must(t, err)

	server := map[netip.Addr]affinity.Index{addr("10.0.0.2"): 1, addr("10.0.0.3"): 2}
	name := []string{1: "rs1 (10.0.0.2)", 2: "rs2 (10.0.0.3)"}
	right := server[dial(t, sites, at("203.0.113.1:500"))]
	wrong := server[dial(t, sites, at("203.0.113.2:41641"))]
	unknown := server[dial(t, sites, at("203.0.113.3:500"))]
	should := 3 - wrong // the other one
	c := config()
	c.Services = c.Services[:1]
	c.Services[0].VIPs = addrs(vip)
	must(t, p.Replace(t.Context(), c, slices.Values([]plane.Entry{pin(vip, "203.0.113.1:0", right, 0), pin(vip, "203.0.113.2:0", should, 0)})))

	got, sum := audited(t, p)
	slices.SortFunc(got, func(a, b plane.Difference) int { return strings.Compare(a.Key, b.Key) })
	want := []plane.Difference{
		{Key: "endpoint 203.0.113.2:41641 at UDP 198.51.100.1:500", Want: name[should], Have: name[wrong]},
		{Key: "endpoint 203.0.113.3:500 at UDP 198.51.100.1:500", Want: "nothing", Have: name[unknown]},
		{Key: "persistent client 203.0.113.2 at UDP 198.51.100.1:500", Want: name[should], Have: name[wrong]},
		{Key: "persistent client 203.0.113.3 at UDP 198.51.100.1:500", Want: "nothing", Have: name[unknown]},
		{Key: "virtual service ipsec at UDP 198.51.100.1:4500", Want: "a service of IPVS", Have: "nothing"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	// Equal are the first site's connection and template, the service, and as many real servers as pins name.
	servers := uint64(1)
	if right != should {
		servers = 2
	}
	if diff := cmp.Diff(plane.Audited{Equal: 3 + servers, Missing: 1, Other: 2, Surplus: 2}, sum); diff != "" {
		t.Error(diff)
	}
}
