package route

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The sink's gateways: one neighbour, whatever is sent to it. They are never looked for: the sink has no ARP.
var (
	sinkGateway4 = netip.MustParseAddr("192.0.0.8") // the dummy address of RFC 7600
	sinkGateway6 = netip.MustParseAddr("fe80::1")
)

// ensureSink makes the sink and the members that all groups share, or makes sure of them.
func (t *Tables) ensureSink(ctx context.Context) error {
	index, err := t.ifIndex(SinkName)
	if errors.Is(err, os.ErrNotExist) {
		index, err = t.makeSink()
	}
	if err != nil {
		return fmt.Errorf("make %s, which swallows packets of nexthops that lost their link: %w", SinkName, err)
	}
	for _, name := range []string{SinkName, SinkName + "x"} {
		if err := t.links.LinkSetUp(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: name}}); err != nil {
			return fmt.Errorf("set %s up: %w", name, err)
		}
	}
	fixed := []uint32{hole4, hole6, sink4, sink6}
	var bad refusals
	err = bulk(ctx, t.conn, slices.Values(fixed), func(b []byte, id uint32) []byte {
		switch id {
		case hole4, hole6:
			return attr(appendNexthop(b, unix.NLM_F_EXCL, family(id == hole6), id, 0), unix.NHA_BLACKHOLE, nil)
		}
		b = appendNexthop(b, unix.NLM_F_EXCL, family(id == sink6), id, unix.RTNH_F_ONLINK)
		b = attr32(b, unix.NHA_OIF, uint32(index))
		if id == sink6 {
			return attrAddr(b, unix.NHA_GATEWAY, sinkGateway6)
		}
		return attrAddr(b, unix.NHA_GATEWAY, sinkGateway4)
	}, func(id uint32, err error) {
		if !errors.Is(err, unix.EEXIST) {
			bad.add("set", Nexthop{ID: id, Blackhole: true}, err)
		}
	})
	if err != nil {
		return fmt.Errorf("set the members that all nexthops share: %w", err)
	}
	return bad.err()
}

// makeSink makes a veth pair without ARP and without addresses. What is sent into one end comes out of the other as a frame
// for somebody else, since the two have different MAC addresses, and is dropped there.
func (t *Tables) makeSink() (index int, err error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = SinkName, 65535
	attrs.HardwareAddr = net.HardwareAddr{0x02, 0x7d, 0, 0, 0, 1}
	v := &netlink.Veth{LinkAttrs: attrs, PeerName: SinkName + "x", PeerHardwareAddr: net.HardwareAddr{0x02, 0x7d, 0, 0, 0, 2}}
	if err := t.links.LinkAdd(v); err != nil {
		return 0, err
	}
	for _, name := range []string{SinkName, SinkName + "x"} {
		l, err := t.links.LinkByName(name)
		if err != nil {
			return 0, err
		}
		const noAddress = 1 // IN6_ADDR_GEN_MODE_NONE
		if err := errors.Join(t.links.LinkSetARPOff(l), t.links.LinkSetIP6AddrGenMode(l, noAddress)); err != nil {
			return 0, err
		}
	}
	return t.ifIndex(SinkName)
}
