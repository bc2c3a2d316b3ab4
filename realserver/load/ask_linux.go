package load

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// A diagRequest is a struct inet_diag_req_v2: UDP sockets of a family at a local port. The kernel looks for them, which costs it a
// walk over its table of sockets; /proc/net/udp would print all of them.
type diagRequest struct {
	family uint8
	port   uint16
}

func (r diagRequest) Len() int { return 56 }

func (r diagRequest) Serialize() []byte {
	b := make([]byte, r.Len())
	b[0], b[1], b[2] = r.family, unix.IPPROTO_UDP, 1<<(diagMemory-1)
	binary.NativeEndian.PutUint32(b[4:], ^uint32(0)) // in any state
	binary.BigEndian.PutUint16(b[8:], r.port)
	return b
}

// readSockets lists the UDP sockets of the calling thread's namespace at the ports of some addresses.
func readSockets(ctx context.Context, at []netip.AddrPort) ([]socket, error) {
	var out []socket
	var errs []error
	asked := map[diagRequest]bool{}
	for _, a := range at {
		for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} { // one of IPv6 may also receive IPv4
			req := diagRequest{family, a.Port()}
			if asked[req] || ctx.Err() != nil {
				continue
			}
			asked[req] = true
			found, err := dump(req)
			out, errs = append(out, found...), append(errs, err)
		}
	}
	return out, errors.Join(append(errs, ctx.Err())...)
}

func dump(r diagRequest) (out []socket, err error) {
	req := nl.NewNetlinkRequest(nl.SOCK_DIAG_BY_FAMILY, unix.NLM_F_DUMP)
	req.AddData(r)
	answers, err := req.Execute(unix.NETLINK_INET_DIAG, 0)
	if err != nil {
		return nil, fmt.Errorf("ask for UDP sockets at port %d by sock_diag: %w", r.port, err)
	}
	for _, b := range answers {
		s, err := parseSocket(b)
		if err != nil {
			return out, err
		}
		out = append(out, s)
	}
	return out, nil
}

// readDevices reads the counters of devices in the calling thread's namespace.
func readDevices(ctx context.Context, names []string) ([]device, error) {
	if len(names) == 0 {
		return nil, nil
	}
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("ask for devices by netlink: %w", err)
	}
	defer h.Close()
	var out []device
	var errs []error
	for _, name := range names {
		if ctx.Err() != nil {
			break
		}
		l, err := h.LinkByName(name)
		if errors.As(err, new(netlink.LinkNotFoundError)) {
			continue
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("read device %s: %w", name, err))
			continue
		}
		d := device{name: name, index: l.Attrs().Index, tun: isTUN(l)}
		if s := l.Attrs().Statistics; s != nil {
			d.drops = s.TxDropped
		}
		out = append(out, d)
	}
	return out, errors.Join(append(errs, ctx.Err())...)
}
