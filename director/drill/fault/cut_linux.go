package fault

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"tunneldirector/realserver/space"
)

// tablePrefix begins the names of the tables of cuts; the fault's ID follows.
const tablePrefix = "tunneldirector-drill-"

// before is the priority of the chains: ahead of conntrack's defragmentation (-400) and of everybody's tables.
const before = -450

// Do makes a table of the fault's own in each namespace.
func (c *Cut) Do(_ context.Context, id string, lasts time.Duration) error {
	if err := c.check(); err != nil {
		return err
	}
	for _, s := range c.spaces() {
		if err := space.Space(s).Do(func() error { return c.cut(tablePrefix+id, lasts) }); err != nil {
			return fmt.Errorf("cut %s off by nftables: %w", where(s), err)
		}
	}
	return nil
}

// Undo removes the tables. Those of a namespace that is gone went with it.
func (c *Cut) Undo(_ context.Context, id string) error {
	var errs []error
	for _, s := range c.spaces() {
		err := space.Space(s).Do(func() error { return mend(tablePrefix + id) })
		if err != nil && (s == "" || !errors.Is(err, fs.ErrNotExist)) {
			errs = append(errs, fmt.Errorf("join %s again: %w; nft delete table inet %s", where(s), err, tablePrefix+id))
		}
	}
	return errors.Join(errs...)
}

func where(space string) string {
	if space == "" {
		return "this machine"
	}
	return "network namespace " + space
}

// mend removes the tables of a name.
func mend(name string) error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	tables, err := conn.ListTables()
	if err != nil {
		return err
	}
	found := false
	for _, t := range tables {
		if t.Name == name {
			conn.DelTable(t)
			found = true
		}
	}
	if !found {
		return nil
	}
	if err := conn.Flush(); !errors.Is(err, unix.ENOENT) { // somebody else was faster
		return err
	}
	return nil
}

// cut makes the tables in the thread's namespace, in one transaction; those of the same name are replaced.
func (c *Cut) cut(name string, lasts time.Duration) error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	t, lasting, err := table(conn, nftables.TableFamilyINet, name, lasts, unix.NFPROTO_IPV4, unix.NFPROTO_IPV6)
	if err != nil {
		return err
	}
	in := chain(conn, t, "in", nftables.ChainHookPrerouting)
	out := chain(conn, t, "out", nftables.ChainHookOutput)
	if c.All {
		lose(conn, in, lasting, other(expr.MetaKeyIIFNAME))
		lose(conn, out, lasting, other(expr.MetaKeyOIFNAME))
		if err := c.cutARP(conn, name, lasts); err != nil {
			return err
		}
	}
	for _, p := range c.To {
		lose(conn, in, lasting, other(expr.MetaKeyIIFNAME), address(p, false))
	}
	for _, p := range c.Peers {
		lose(conn, in, lasting, other(expr.MetaKeyIIFNAME), address(p, true))
		lose(conn, out, lasting, other(expr.MetaKeyOIFNAME), address(p, false))
	}
	return conn.Flush()
}

// cutARP loses ARP: family inet has none, and a host that is lost answers none.
func (c *Cut) cutARP(conn *nftables.Conn, name string, lasts time.Duration) error {
	t, lasting, err := table(conn, nftables.TableFamilyARP, name, lasts, unix.NFPROTO_ARP)
	if err != nil {
		return err
	}
	in, out := nftables.ChainHook(0), nftables.ChainHook(1) // NF_ARP_IN and NF_ARP_OUT of linux/netfilter_arp.h
	lose(conn, chain(conn, t, "in", &in), lasting)
	lose(conn, chain(conn, t, "out", &out), lasting)
	return nil
}

// table makes a table new, and the set that ends it: its elements are the families that rules hold for, and time out.
func table(conn *nftables.Conn, family nftables.TableFamily, name string, lasts time.Duration, of ...byte) (*nftables.Table, *nftables.Set, error) {
	t := &nftables.Table{Family: family, Name: name}
	conn.AddTable(t) // so that there is one to delete
	conn.DelTable(t)
	conn.AddTable(t)
	lasting := &nftables.Set{Table: t, Name: "lasting", KeyType: nftables.TypeNFProto, HasTimeout: true, Timeout: lasts}
	var elements []nftables.SetElement
	for _, f := range of {
		elements = append(elements, nftables.SetElement{Key: []byte{f}})
	}
	return t, lasting, conn.AddSet(lasting, elements)
}

func chain(conn *nftables.Conn, t *nftables.Table, name string, hook *nftables.ChainHook) *nftables.Chain {
	priority := nftables.ChainPriority(before)
	return conn.AddChain(&nftables.Chain{Name: name, Table: t, Type: nftables.ChainTypeFilter, Hooknum: hook, Priority: &priority})
}

// lose drops what matches, as long as the set has the packet's family.
func lose(conn *nftables.Conn, c *nftables.Chain, lasting *nftables.Set, match ...[]expr.Any) {
	rule := []expr.Any{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, &expr.Lookup{SourceRegister: 1, SetName: lasting.Name, SetID: lasting.ID}}
	for _, m := range match {
		rule = append(rule, m...)
	}
	conn.AddRule(&nftables.Rule{Table: c.Table, Chain: c, Exprs: append(rule, &expr.Counter{}, &expr.Verdict{Kind: expr.VerdictDrop})})
}

// other matches interfaces but the loopback.
func other(key expr.MetaKey) []expr.Any {
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte("lo\x00")}}
}

// address matches the source, or the destination, of a packet.
func address(p netip.Prefix, source bool) []expr.Any {
	family, offset, size := byte(unix.NFPROTO_IPV4), uint32(16), uint32(net.IPv4len) // RFC 791
	if p.Addr().Is6() {
		family, offset, size = unix.NFPROTO_IPV6, 24, net.IPv6len // RFC 8200
	}
	if source {
		offset -= size
	}
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{family}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: size, Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen()), Xor: make([]byte, size)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: p.Masked().Addr().AsSlice()},
	}
}
