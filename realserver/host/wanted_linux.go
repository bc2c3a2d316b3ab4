package host

import (
	"errors"
	"fmt"
	"hash/crc32"
	"net/netip"
	"slices"
	"strconv"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tunneldirector/director/vip/dump"
	"tunneldirector/realserver/space"
)

// A want is how a piece is to be.
type want struct {
	piece
	value string
	good  []string // is as good as value
	why   string
	of    []string // real servers
}

// A plan is what is wanted in one namespace, in the order in which it is to become so.
type plan struct {
	*view
	state *state
	every []Instance // of all namespaces
	wants []want
	notes []Change // what is somebody else's
	in    *Instance
	table int
	iface netlink.Link
	all   []holding
}

// planFor works out what is wanted of a namespace. If whole is false, some of it could not be.
func planFor(v *view, st *state, every []Instance, instances []*Instance) (p *plan, whole bool, err error) {
	p = &plan{view: v, state: st, every: every}
	if p.all, err = v.addresses(); err != nil {
		return p, false, err
	}
	var errs []error
	used := map[int]bool{}
	for _, in := range instances {
		p.in = in
		for p.table = firstTable + int(crc32.ChecksumIEEE([]byte(in.Name))%tables); used[p.table]; p.table++ {
		}
		used[p.table] = true
		wants, notes := slices.Clone(p.wants), len(p.notes)
		if err := p.instance(); err != nil {
			p.wants, p.notes = wants, p.notes[:notes]
			errs = append(errs, fmt.Errorf("real server %s: %w", in.Name, err))
		}
	}
	return p, len(errs) == 0, errors.Join(errs...)
}

// want takes the first word on each piece, which is the same for all real servers of a namespace.
func (p *plan) want(w want) {
	for i := range p.wants {
		if p.wants[i].key() == w.key() {
			p.wants[i].of = append(p.wants[i].of, p.in.Name)
			return
		}
	}
	w.of = []string{p.in.Name}
	p.wants = append(p.wants, w)
}

func (p *plan) sysctl(path string, value int, why string, good ...int) {
	w := want{piece: setting{path}, value: strconv.Itoa(value), why: why}
	for _, g := range good {
		w.good = append(w.good, strconv.Itoa(g))
	}
	p.want(w)
}

func (p *plan) instance() (err error) {
	if p.iface, err = p.link(p.in.Interface); err != nil {
		return err
	}
	if p.iface == nil {
		return fmt.Errorf("there is no interface %s", p.in.Interface)
	}
	if err := p.forwarding(); err != nil {
		return err
	}
	if p.in.has(false) {
		p.silence()
		if err := p.reversePath(); err != nil {
			return err
		}
		p.passing()
	}
	for _, v6 := range []bool{false, true} {
		if !p.in.has(v6) {
			continue
		}
		if p.in.Method == Tunnel {
			if err := p.decapsulation(v6); err != nil {
				return err
			}
		}
		if err := p.replies(v6); err != nil {
			return err
		}
	}
	p.clamp()
	if err := p.hold(); err != nil {
		return err
	}
	return errors.Join(p.marked(false), p.marked(true))
}

// segment are the interfaces that hear ARP requests where the directors are: the instance's, those with an address of its
// subnets, and the one that replies leave by.
func (p *plan) segment() []string {
	list := []string{p.in.Interface}
	for _, own := range p.all {
		if own.device != p.in.Interface || !own.prefix.Addr().Is4() || own.prefix.IsSingleIP() {
			continue
		}
		for _, h := range p.all {
			if h.device != "lo" && h.prefix.Addr().Is4() && !slices.Contains(p.in.VIPs, h.prefix.Addr()) && h.prefix.Overlaps(own.prefix) && !slices.Contains(list, h.device) {
				list = append(list, h.device)
			}
		}
	}
	if gw := of(p.in.Via, false); gw.IsValid() {
		if d, err := p.toward(gw); err == nil && !slices.Contains(list, d) {
			list = append(list, d)
		}
	}
	return list
}

// silence keeps the VIP off the wire; arp_ignore and arp_announce are the maximum of all and the interface's.
func (p *plan) silence() {
	for _, d := range p.segment() {
		if p.number(conf4("all", "arp_ignore")) < 1 {
			p.sysctl(conf4(d, "arp_ignore"), 1, "else this host answers ARP requests for the VIP, and takes the tunnels from the director", 2, 8)
		}
		if p.number(conf4("all", "arp_announce")) < 2 {
			p.sysctl(conf4(d, "arp_announce"), 2, "else an ARP request of this host, for the next hop of a reply, carries the VIP as its sender: "+
				"neighbours then take this host for the VIP's owner")
		}
	}
	if p.in.ShareL2 && p.number(conf4("all", "arp_filter")) < 1 {
		p.sysctl(conf4(p.in.Interface, "arp_filter"), 1, "several interfaces share an address or MAC on this segment: only the one that packets leave by is to answer")
	}
}

// reversePath: a packet of a site, or for a subnet, comes by the director, and its answer may leave by another interface.
func (p *plan) reversePath() error {
	if p.in.Method == Tunnel {
		return nil // what comes from directors has a director's address for its source
	}
	others, err := p.routedElsewhere()
	if err != nil || !others || p.number(conf4("all", "rp_filter")) == 2 {
		return err
	}
	good := []int{0}
	if p.number(conf4("all", "rp_filter")) == 1 {
		good = nil // the maximum counts
	}
	p.sysctl(conf4(p.in.Interface, "rp_filter"), 2, "packets come by the director whose answers leave by another interface: a strict reverse-path filter drops them", good...)
	return nil
}

// passing: replies of real servers in other namespaces that have a VIP of this one, and go by this one.
func (p *plan) passing() {
	for _, d := range p.lodgers() {
		if p.number(conf4("all", "accept_local")) < 1 {
			p.sysctl(conf4(d, "accept_local"), 1, "replies of a real server in another namespace come by it with a VIP as their source that is this namespace's, too: they would be dropped as martians")
		}
		if all := p.number(conf4("all", "rp_filter")); all == 1 {
			p.sysctl(conf4(d, "rp_filter"), 2, "a strict reverse-path filter drops them, too")
		} else if all == 0 {
			p.sysctl(conf4(d, "rp_filter"), 2, "a strict reverse-path filter drops them, too", 0)
		}
	}
}

// lodgers are the interfaces towards real servers in other namespaces that share an IPv4 VIP and whose gateway is here.
func (p *plan) lodgers() (devices []string) {
	for i := range p.every {
		o := &p.every[i]
		if o.Space == p.in.Space || !slices.ContainsFunc(o.VIPs, func(a netip.Addr) bool { return a.Is4() && slices.Contains(p.in.VIPs, a) }) {
			continue
		}
		gw := of(o.Via, false)
		if !gw.IsValid() {
			gw = gatewayIn(o.Space, o.site(false))
		}
		for _, h := range p.all {
			if h.prefix.Addr() == gw && !slices.Contains(devices, h.device) {
				devices = append(devices, h.device)
			}
		}
	}
	return devices
}

// gatewayIn is the next hop to an address; the zero Addr where there is none.
func gatewayIn(s space.Space, to netip.Addr) (gw netip.Addr) {
	err := look(s, func(v *view) error {
		ways, err := v.nl.RouteGet(to.AsSlice())
		if err == nil && len(ways) > 0 {
			gw, _ = netip.AddrFromSlice(ways[0].Gw)
		}
		return err
	})
	if err != nil { // that namespace has no such way now, or is not there: its own plan says so
		return netip.Addr{}
	}
	return gw.Unmap()
}

// routedElsewhere tells whether packets leave by other interfaces than the instance's.
func (p *plan) routedElsewhere() (bool, error) {
	list, err := p.nl.RouteListFiltered(unix.AF_INET, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return false, fmt.Errorf("list routes: %w", err)
	}
	return slices.ContainsFunc(list, func(r netlink.Route) bool {
		return r.Type == unix.RTN_UNICAST && r.LinkIndex != p.iface.Attrs().Index
	}), nil
}

func (p *plan) forwarding() error {
	const why = "what comes out of the tunnels goes on to the target subnets, and what comes for the subnets into the tunnels"
	if p.in.has(false) {
		p.want(want{piece: forwarding{}, value: forwarding{}.want(), why: why})
	}
	if !p.in.has(true) {
		return nil
	}
	heard, err := p.nl.RouteListFiltered(unix.AF_INET6, &netlink.Route{Protocol: unix.RTPROT_RA}, netlink.RT_FILTER_PROTOCOL)
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	links, err := dump.Whole(func() ([]netlink.Link, error) { return p.nl.LinkList() })
	if err != nil {
		return fmt.Errorf("list interfaces: %w", err)
	}
	for _, l := range links {
		path := conf6(l.Attrs().Name, "accept_ra")
		if slices.ContainsFunc(heard, func(r netlink.Route) bool { return r.LinkIndex == l.Attrs().Index }) || p.state.find(string(p.space), setting{path}.key()) != nil {
			p.sysctl(path, 2, "this interface has routes by router advertisements, which a host that forwards hears only if told to")
		}
	}
	p.want(want{piece: forwarding{true}, value: forwarding{true}.want(), why: why})
	return nil
}

// clamp takes the least of what the real servers of a namespace want.
func (p *plan) clamp() {
	size := p.in.MSS
	if size == 0 && p.in.Method == Tunnel {
		// Sites' packets have one header more on the way here; 80 bytes are for all that a tunnel adds to its outer header.
		ip := 20
		if p.in.has(true) {
			ip = 40
		}
		if size = p.in.MTU; size == 0 {
			size = 1500
		}
		size -= ip + ip + 80 + 40
	}
	if size <= 0 {
		return
	}
	w := want{piece: clamp{}, value: strconv.Itoa(size), why: "connections within the tunnels agree on segments that fit, also where ICMP is filtered"}
	for i := range p.wants {
		if have, err := strconv.Atoi(p.wants[i].value); p.wants[i].key() == w.key() && err == nil && have > size {
			p.wants[i].value = w.value
		}
	}
	p.want(w)
}

// hold comes last: nobody is to answer for a VIP before.
func (p *plan) hold() error {
	holder := "lo"
	if p.in.Holder != "" {
		holder = p.in.Holder
		l, err := p.link(holder)
		if err != nil {
			return err
		}
		if l == nil || p.state.find(string(p.space), device{holder}.key()) != nil {
			p.want(want{piece: device{holder}, value: "dummy", why: "VIPs are to be held on it"})
			p.want(want{piece: upness{holder}, value: "up", why: "VIPs are to be held on it"})
		}
	}
	for _, vip := range p.in.VIPs {
		a := address{vip, holder}
		foreign := slices.IndexFunc(p.all, func(h holding) bool {
			return h.prefix.Addr() == vip && p.state.find(string(p.space), address{vip, h.device}.key()) == nil
		})
		if foreign < 0 {
			p.want(want{piece: a, value: a.want(), why: "packets for the VIP are to be this host's"})
			continue
		}
		h := p.all[foreign]
		p.notes = append(p.notes, Change{Space: p.space, Object: address{vip, h.device}.String(), From: h.prefix.String(), To: h.prefix.String(),
			Why: "it was there before, and is not ours", Left: true})
	}
	return nil
}
