package guest

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Of include/uapi/linux/l2tp.h.
const (
	l2tpFamily        = "l2tp"
	l2tpVersion       = 1
	l2tpTunnelCreate  = 1
	l2tpSessionCreate = 5

	l2tpPseudowireType = 1
	l2tpEncapType      = 2
	l2tpProtoVersion   = 7
	l2tpIfname         = 8
	l2tpConnID         = 9
	l2tpPeerConnID     = 10
	l2tpSessionID      = 11
	l2tpPeerSessionID  = 12
	l2tpUDPChecksum    = 13
	l2tpSaddr          = 24
	l2tpDaddr          = 25
	l2tpSport          = 26
	l2tpDport          = 27
	l2tpSaddr6         = 31
	l2tpDaddr6         = 32

	l2tpOverUDP  = 0
	l2tpOverIP   = 1
	l2tpEthernet = 5
)

// L2TPv3 pseudowires of the kernel (RFC 3931), over UDP or directly over IP (protocol 115), without a control connection.
var (
	l2tpUDP = kind{"l2tp-udp", []string{"udp/1701-1716"}, func(e end) error { return e.pseudowire(l2tpOverUDP) }}
	l2tpIP  = kind{"l2tp-ip", []string{"l2tp"}, func(e end) error { return e.pseudowire(l2tpOverIP) }}
)

// l2tpPort is the tunnel's at the VIP: the kernel gives each tunnel a socket.
func (e end) l2tpPort() uint16 { return 1700 + uint16(e.number) }

// pseudowire makes a tunnel and one Ethernet session in it.
func (e end) pseudowire(encapsulation uint16) error {
	id := nl.Uint32Attr(uint32(e.number))
	attrs := []*nl.RtAttr{
		nl.NewRtAttr(l2tpConnID, id), nl.NewRtAttr(l2tpPeerConnID, id),
		nl.NewRtAttr(l2tpProtoVersion, nl.Uint8Attr(3)), nl.NewRtAttr(l2tpEncapType, nl.Uint16Attr(encapsulation)),
	}
	attrs = append(attrs, l2tpAddrs(e.local, e.remote)...)
	if encapsulation == l2tpOverUDP {
		port := nl.Uint16Attr(e.l2tpPort())
		attrs = append(attrs, nl.NewRtAttr(l2tpSport, port), nl.NewRtAttr(l2tpDport, port),
			nl.NewRtAttr(l2tpUDPChecksum, nl.Uint8Attr(1)))
	}
	if err := l2tp(l2tpTunnelCreate, attrs...); err != nil {
		return fmt.Errorf("make L2TP tunnel %d: %w", e.number, err)
	}
	name := e.device("l2tp-")
	err := l2tp(l2tpSessionCreate,
		nl.NewRtAttr(l2tpConnID, id), nl.NewRtAttr(l2tpSessionID, id), nl.NewRtAttr(l2tpPeerSessionID, id),
		nl.NewRtAttr(l2tpPseudowireType, nl.Uint16Attr(l2tpEthernet)), nl.NewRtAttr(l2tpIfname, nl.ZeroTerminated(name)))
	if err != nil {
		return fmt.Errorf("make L2TP session %d: %w", e.number, err)
	}
	return e.raise(name, true)
}

func l2tpAddrs(local, remote netip.Addr) []*nl.RtAttr {
	if local.Is4() {
		return []*nl.RtAttr{nl.NewRtAttr(l2tpSaddr, local.AsSlice()), nl.NewRtAttr(l2tpDaddr, remote.AsSlice())}
	}
	return []*nl.RtAttr{nl.NewRtAttr(l2tpSaddr6, local.AsSlice()), nl.NewRtAttr(l2tpDaddr6, remote.AsSlice())}
}

func l2tp(command uint8, attrs ...*nl.RtAttr) error {
	f, err := netlink.GenlFamilyGet(l2tpFamily)
	if err != nil {
		return err
	}
	req := nl.NewNetlinkRequest(int(f.ID), unix.NLM_F_ACK)
	req.AddData(&nl.Genlmsg{Command: command, Version: l2tpVersion})
	for _, a := range attrs {
		req.AddData(a)
	}
	_, err = req.Execute(unix.NETLINK_GENERIC, 0)
	return err
}
