package lab

import (
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
)

// hostNAT is the NAT box's host number on the sites' network.
const hostNAT = 254

// A NAT is a box that lends several sites its one public address, and source ports at random.
type NAT struct {
	*Namespace
	Outer   Port // on the sites' network
	Private Port
}

func (l *Lab) buildNAT(seg segments) error {
	ns, err := l.namespace("nat")
	if err != nil {
		return err
	}
	public := seg.sites
	public.withIPv6 = false
	plug := l.plugs(ns, &err)
	l.NAT = &NAT{Namespace: ns, Outer: plug("outer", public, hostNAT), Private: plug("private", seg.private, hostRouter)}
	if err != nil {
		return err
	}
	router := seg.sites.addrs(hostRouter)[0].Addr()
	if err := ns.route(defaultOf(router), router, "outer", 0); err != nil {
		return err
	}
	if err := ns.Sysctl(forwarding); err != nil {
		return err
	}
	return ns.masquerade("outer")
}

// masquerade gives what leaves by an interface that one's address and a random source port, as carriers' boxes do.
func (n *Namespace) masquerade(dev string) error {
	c, err := nftables.New(nftables.WithNetNSFd(int(n.handle)))
	if err != nil {
		return fmt.Errorf("open packet filter of %s: %w", n.Name, err)
	}
	name := make([]byte, 16) // IFNAMSIZ
	copy(name, dev)
	t := c.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "nat"})
	c.AddRule(&nftables.Rule{
		Table: t,
		Chain: c.AddChain(&nftables.Chain{
			Name: "leaving", Table: t, Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPostrouting,
			Priority: nftables.ChainPriorityNATSource,
		}),
		Exprs: []expr.Any{
			&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: name},
			&expr.Masq{Random: true, FullyRandom: true},
		},
	})
	if err := c.Flush(); err != nil {
		return fmt.Errorf("masquerade what leaves %s by %s: %w", n.Name, dev, err)
	}
	return nil
}

// Forget lets the NAT box lose its table, as one that restarts does: what comes next gets new ports.
func (b *NAT) Forget() error {
	return b.Run(func() error {
		if err := netlink.ConntrackTableFlush(netlink.ConntrackTable); err != nil {
			return fmt.Errorf("flush the connections of %s: %w", b.Name, err)
		}
		return nil
	})
}
