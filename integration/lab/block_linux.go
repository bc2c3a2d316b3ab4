package lab

import (
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Block lets the switch drop what a machine sends from a port to some IPv4 addresses, or all that it sends if there are none, until
// lift is called. What others send to the machine still comes: a cable that is cut one way.
func (l *Lab) Block(from Port, to ...netip.Addr) (lift func() error, err error) {
	c, err := nftables.New(nftables.WithNetNSFd(int(l.Switch.handle)))
	if err != nil {
		return nil, fmt.Errorf("open packet filter of %s: %w", l.Switch.Name, err)
	}
	l.blocks++
	t := c.AddTable(&nftables.Table{Family: nftables.TableFamilyNetdev, Name: fmt.Sprintf("block%d", l.blocks)})
	chain := c.AddChain(&nftables.Chain{
		Name: "arriving", Table: t, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookIngress,
		Priority: nftables.ChainPriorityFilter, Device: from.outlet,
	})
	if len(to) == 0 {
		c.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}}})
	}
	for _, a := range to {
		if !a.Is4() {
			return nil, fmt.Errorf("block what goes to %s: only IPv4 is blocked by address", a)
		}
		c.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: []expr.Any{
			&expr.Meta{Key: expr.MetaKeyPROTOCOL, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.ETH_P_IP >> 8, unix.ETH_P_IP & 0xff}},
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4}, // the destination, RFC 791
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: a.AsSlice()},
			&expr.Verdict{Kind: expr.VerdictDrop},
		}})
	}
	if err := c.Flush(); err != nil {
		return nil, fmt.Errorf("block what comes by %s: %w", from.outlet, err)
	}
	return func() error {
		c.DelTable(t)
		if err := c.Flush(); err != nil {
			return fmt.Errorf("let pass what comes by %s: %w", from.outlet, err)
		}
		return nil
	}, nil
}
