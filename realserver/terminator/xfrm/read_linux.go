package xfrm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// patience is how long the kernel may take for an answer.
const patience = 5 * time.Second

// list runs a dump in the namespace. One that changed while it was read is taken for what it is: it is read again soon.
func list[T any](ctx context.Context, d *Driver, what string, dump func(h *netlink.Handle) ([]T, error)) ([]T, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var all []T
	err := d.o.Space.Do(func() error {
		h, err := netlink.NewHandle(unix.NETLINK_XFRM)
		if err != nil {
			return err
		}
		defer h.Close()
		if err := h.SetSocketTimeout(patience); err != nil {
			return err
		}
		if all, err = dump(h); errors.Is(err, netlink.ErrDumpInterrupted) {
			err = nil
		}
		return err
	})
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		err = fmt.Errorf("the kernel has no IPsec (module xfrm_user): %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", what, err)
	}
	return all, nil
}

// states are the SAs that carry packets: those that wait for their keys are left out.
func (d *Driver) states(ctx context.Context) ([]state, error) {
	all, err := list(ctx, d, "IPsec SAs", func(h *netlink.Handle) ([]netlink.XfrmState, error) { return h.XfrmStateList(netlink.FAMILY_ALL) })
	out := make([]state, 0, len(all))
	for i := range all {
		s := &all[i]
		if s.Aead == nil && s.Crypt == nil && s.Auth == nil {
			continue
		}
		one := state{
			src: addr(s.Src), dst: addr(s.Dst), spi: uint32(s.Spi), reqid: uint32(s.Reqid), added: time.Unix(int64(s.Statistics.AddTime), 0),
			packets: s.Statistics.Packets, bytes: s.Statistics.Bytes,
		}
		if s.Encap != nil {
			one.sport, one.dport = uint16(s.Encap.SrcPort), uint16(s.Encap.DstPort)
		}
		out = append(out, one)
	}
	return out, err
}

// policies are those of what leaves by tunnels.
func (d *Driver) policies(ctx context.Context) ([]policy, error) {
	all, err := list(ctx, d, "IPsec policies", func(h *netlink.Handle) ([]netlink.XfrmPolicy, error) { return h.XfrmPolicyList(netlink.FAMILY_ALL) })
	var out []policy
	for i := range all {
		p := &all[i]
		if p.Dir != netlink.XFRM_DIR_OUT || p.Dst == nil {
			continue
		}
		for _, by := range p.Tmpls {
			ones, _ := p.Dst.Mask.Size()
			if network := netip.PrefixFrom(addr(p.Dst.IP), ones); by.Mode == netlink.XFRM_MODE_TUNNEL && network.IsValid() {
				out = append(out, policy{network: network.Masked(), src: addr(by.Src), dst: addr(by.Dst), reqid: uint32(by.Reqid)})
			}
		}
	}
	return out, err
}

func addr(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}
