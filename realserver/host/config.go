package host

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"net/netip"
	"regexp"
	"slices"

	"tunneldirector/realserver/space"
)

// The forwarding methods that a host is made right for.
const (
	DR     = "dr"
	Tunnel = "tunnel"
)

// Config is what a Host is for.
type Config struct {
	Instances []Instance
	StateFile string // what was there before; its directory is there
}

// digest tells one set of instances from another.
func (c *Config) digest() string {
	b, err := json.Marshal(c.Instances)
	if err != nil { // it is all plain data
		panic(err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(b))
}

// An Instance is one real server.
type Instance struct {
	Name      string
	Space     space.Space
	VIPs      []netip.Addr
	Method    string // DR or Tunnel
	Interface string // towards the directors

	// Own are the real server's own addresses, one a family, that directors send IPIP to; none: those of Interface, where it
	// has one of the VIP's family.
	Own []netip.Addr
	// Holder is the device that holds VIPs: "" is lo. Another is a dummy device, made where it is not there.
	Holder string
	// Via are gateways for all that leaves with a VIP as its source, at most one a family. None: the main table's routes do.
	Via []netip.Addr
	// Mark is a firewall mark of packets that are to leave by Via with the VIP as source, though their sender left the source
	// open. WireGuard in the kernel does under Tunnel: `wg set DEVICE fwmark MARK`. It needs Via. 0: none.
	Mark uint32
	// ShareL2: another interface, here or of another real server, has the same address or MAC on this segment. ARP is then
	// answered only by the interface that the answer's packets would leave by.
	ShareL2 bool

	MTU int // of the largest packets that sites send to the VIPs; 0: 1500
	// MSS is the largest TCP segment (IPv4; 20 bytes less in IPv6) that forwarded connections are let agree on. 0: worked out
	// for Tunnel, none for DR. -1: none.
	MSS int

	// Sites are addresses of sites, to try ways with; none: an address of no one's.
	Sites     []netip.Addr
	ProbePort uint16   // UDP, at the VIPs; 0: not probed
	Protocols []string // of the services: esp, ah, gre, ipip, l2tp, udp/4500, tcp/443 ...
}

// A Change is a thing of the host that is not as it is to be, or that is not ours.
type Change struct {
	Space  space.Space
	Object string // "sysctl net.ipv4.conf.eth0.arp_ignore", "address 192.0.2.1 on lo" ...
	From   string // "" is absent
	To     string
	Why    string
	Left   bool // it is somebody else's, and stays
}

func (c Change) String() string {
	text := func(s string) string {
		if s == "" {
			return "absent"
		}
		return s
	}
	if c.Left {
		return fmt.Sprintf("%s: left %s: %s", c.Object, text(c.From), c.Why)
	}
	return fmt.Sprintf("%s: from %s to %s: %s", c.Object, text(c.From), text(c.To), c.Why)
}

// A Host is made right for its Instances.
type Host struct{ cfg Config }

// New checks a configuration; all its faults are joined. It touches nothing.
func New(cfg Config) (*Host, error) {
	var errs []error
	if cfg.StateFile == "" {
		errs = append(errs, errors.New("state file: is missing"))
	}
	for i, in := range cfg.Instances {
		for _, fault := range in.faults() {
			errs = append(errs, fmt.Errorf("real server %s: %s", in.Name, fault))
		}
		for _, other := range cfg.Instances[:i] {
			if other.Name == in.Name {
				errs = append(errs, fmt.Errorf("real server %s: stands twice", in.Name))
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return &Host{cfg: cfg}, nil
}

var (
	nameRE   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$`)
	deviceRE = regexp.MustCompile(`^[^/:\s]{1,15}$`)
)

func (in *Instance) faults() (out []string) {
	add := func(bad bool, format string, args ...any) {
		if bad {
			out = append(out, fmt.Sprintf(format, args...))
		}
	}
	add(!nameRE.MatchString(in.Name), "name: not a name")
	add(in.Method != DR && in.Method != Tunnel, "method %q: is neither %s nor %s", in.Method, DR, Tunnel)
	add(!deviceRE.MatchString(in.Interface), "interface %q: not an interface's name", in.Interface)
	add(in.Interface == "lo", "interface: lo leads to no director")
	add(in.Holder != "" && !deviceRE.MatchString(in.Holder), "holder %q: not an interface's name", in.Holder)
	add(len(in.VIPs) == 0, "vips: are missing")
	for _, a := range in.VIPs {
		add(!unicast(a), "vip %v: not a unicast address", a)
	}
	for _, list := range [][]netip.Addr{in.Own, in.Via} {
		for i, a := range list {
			add(!unicast(a) && !a.IsLinkLocalUnicast(), "address %v: not a unicast address", a)
			add(slices.Contains(in.VIPs, a), "address %v: is a VIP", a)
			add(slices.ContainsFunc(list[:i], func(b netip.Addr) bool { return a.Is4() == b.Is4() }), "address %v: there is another of its family", a)
		}
	}
	add(in.Mark != 0 && len(in.Via) == 0, "mark: needs via")
	add(in.MTU != 0 && (in.MTU < 1280 || in.MTU > 65535), "mtu %d: is not within 1280 and 65535", in.MTU)
	add(in.MSS < -1 || in.MSS > 0 && in.MSS < 88+20, "mss %d: is too small", in.MSS)
	for _, p := range in.Protocols {
		_, err := parseProtocol(p)
		add(err != nil, "protocol %q: %v", p, err)
	}
	return out
}

func unicast(a netip.Addr) bool {
	return a.IsValid() && !a.Is4In6() && a.Zone() == "" && !a.IsUnspecified() && !a.IsMulticast() && !a.IsLoopback() && !a.IsLinkLocalUnicast()
}

// of is the address of a's family; the zero Addr if there is none.
func of(list []netip.Addr, v6 bool) netip.Addr {
	for _, a := range list {
		if a.Is6() == v6 {
			return a
		}
	}
	return netip.Addr{}
}

func (in *Instance) has(v6 bool) bool { return of(in.VIPs, v6).IsValid() }

// Devices are the names of the devices that Apply makes for a real server of method Tunnel, and at which its packets come out of
// IPIP: that of IPv4, that of IPv6.
func Devices(realServer string) []string {
	in := &Instance{Name: realServer}
	return []string{decapName(in, false), decapName(in, true)}
}

// decapName fits into what the kernel has room for.
func decapName(in *Instance, v6 bool) string {
	prefix := "td4-"
	if v6 {
		prefix = "td6-"
	}
	if name := prefix + in.Name; deviceRE.MatchString(name) {
		return name
	}
	return fmt.Sprintf("%s%08x", prefix, crc32.ChecksumIEEE([]byte(in.Name)))
}

// site is an address to try ways with.
func (in *Instance) site(v6 bool) netip.Addr {
	if a := of(in.Sites, v6); a.IsValid() {
		return a
	}
	if v6 {
		return netip.MustParseAddr("2001:2::1") // RFC 5180, for tests of network devices
	}
	return netip.MustParseAddr("198.18.0.1") // RFC 2544, the same
}
