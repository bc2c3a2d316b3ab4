package lab

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Block lets the switch drop what a machine sends from a port to some addresses, or all that it sends if there are none, until lift is
// called. What others send to the machine still comes: a cable that is cut one way.
func (l *Lab) Block(from Port, to ...netip.Addr) (lift func() error, err error) {
	return l.block(from, nftables.ChainHookIngress, to)
}

// Lose lets the switch drop what is on its way into a port to some addresses, or all of it if there are none, until lift is called. What
// the machine sends goes out: the same cable, cut the other way.
func (l *Lab) Lose(into Port, to ...netip.Addr) (lift func() error, err error) {
	return l.block(into, nftables.ChainHookEgress, to)
}

func (l *Lab) block(at Port, hook *nftables.ChainHook, to []netip.Addr) (lift func() error, err error) {
	c, err := nftables.New(nftables.WithNetNSFd(int(l.Switch.handle)))
	if err != nil {
		return nil, fmt.Errorf("open packet filter of %s: %w", l.Switch.Name, err)
	}
	t := c.AddTable(&nftables.Table{Family: nftables.TableFamilyNetdev, Name: fmt.Sprintf("block%d", l.blocks.Add(1))})
	chain := c.AddChain(&nftables.Chain{
		Name: "passing", Table: t, Type: nftables.ChainTypeFilter, Hooknum: hook,
		Priority: nftables.ChainPriorityFilter, Device: at.outlet,
	})
	if len(to) == 0 {
		c.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}}})
	}
	for _, a := range to {
		c.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: dropTo(a)})
	}
	if err := c.Flush(); err != nil {
		return nil, fmt.Errorf("block what passes %s: %w", at.outlet, err)
	}
	return func() error {
		c.DelTable(t)
		if err := c.Flush(); err != nil {
			return fmt.Errorf("let pass what comes by %s: %w", at.outlet, err)
		}
		return nil
	}, nil
}

// dropTo drops what has a destination address: at 16 in the header (RFC 791), or at 24 (RFC 8200).
func dropTo(a netip.Addr) []expr.Any {
	protocol, offset := uint16(unix.ETH_P_IP), uint32(16)
	if a.Is6() {
		protocol, offset = unix.ETH_P_IPV6, 24
	}
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyPROTOCOL, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binary.BigEndian.AppendUint16(nil, protocol)},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: uint32(a.BitLen() / 8)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: a.AsSlice()},
		&expr.Verdict{Kind: expr.VerdictDrop},
	}
}
