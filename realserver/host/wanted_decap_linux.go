package host

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tunneldirector/director/vip/dump"
)

// own is the address that the directors' IPIP comes to.
func (p *plan) own(v6 bool) (netip.Addr, error) {
	if a := of(p.in.Own, v6); a.IsValid() {
		return a, nil
	}
	var found []netip.Addr
	for _, h := range p.all {
		a := h.prefix.Addr()
		if h.device == p.in.Interface && a.Is6() == v6 && h.scope == unix.RT_SCOPE_UNIVERSE && !slices.Contains(p.in.VIPs, a) {
			found = append(found, a)
		}
	}
	if len(found) != 1 {
		return netip.Addr{}, fmt.Errorf("the address that directors send IPv%s in IPIP to: %s has %d, %v; say which", number(v6), p.in.Interface, len(found), found)
	}
	return found[0], nil
}

// occupant is a device of another name that is the same as one of ours would be: the kernel has no two.
func (p *plan) occupant(value, name string) (other string, foreign bool, err error) {
	for i := range p.wants {
		if d, ok := p.wants[i].piece.(device); ok && p.wants[i].value == value { // another real server's
			p.wants[i].of = append(p.wants[i].of, p.in.Name)
			return d.name, false, nil
		}
	}
	links, err := dump.Whole(func() ([]netlink.Link, error) { return p.nl.LinkList() })
	if err != nil {
		return "", false, fmt.Errorf("list interfaces: %w", err)
	}
	for _, l := range links {
		ours := p.state.find(string(p.space), device{l.Attrs().Name}.key()) != nil
		if l.Attrs().Name != name && deviceValue(l) == value && !ours {
			return l.Attrs().Name, true, nil
		}
	}
	return "", false, nil
}

func (p *plan) decapsulation(v6 bool) error {
	own, err := p.own(v6)
	if err != nil {
		return err
	}
	name, kind := decapName(p.in, v6), "ipip"
	if v6 {
		kind = "ip6tnl"
	}
	value := kind + " " + own.String()
	other, foreign, err := p.occupant(value, name)
	if err != nil {
		return err
	}
	if other != "" {
		name = other
	}
	if foreign {
		p.notes = append(p.notes, Change{Space: p.space, Object: device{name}.String(), From: value, To: value, Left: true,
			Why: "it was there before, is not ours, and takes out what comes in IPIP"})
	} else if other == "" {
		p.want(want{piece: device{name}, value: value, why: "directors send in IPIP to " + own.String() + ", where it has to be taken out"})
	}
	if !v6 {
		all := p.number(conf4("all", "rp_filter"))
		value, good := 0, []int{}
		switch all {
		case 1:
			value = 2
		case 2:
			good = []int{1, 2}
		}
		p.sysctl(conf4(name, "rp_filter"), value, "what is taken out has sources that are routed by another interface", good...)
		if all > 0 {
			// fib_validate_source (net/ipv4/fib_frontend.c) holds everything against a device without addresses.
			for _, vip := range p.in.VIPs {
				if vip.Is4() {
					a := address{vip, name}
					p.want(want{piece: a, value: a.want(), why: fmt.Sprintf("net.ipv4.conf.all.rp_filter is %d, and even a loose reverse-path filter "+
						"drops all that comes by a device without an address", all)})
				}
			}
		}
	}
	p.want(want{piece: upness{name}, value: "up", why: "a device that is down takes nothing"})
	return nil
}
