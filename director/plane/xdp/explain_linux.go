package xdp

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/cilium/ebpf"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
)

// An answer is struct answer of types.h: what the twin is asked and what it decided.
type answer struct {
	ifindex                      uint32
	reason, side, flags, bits    uint8
	index, service, port, tenant uint16
	endpoint                     [16]byte
	backup, hashed, matched      bool
}

const answerSize = 32

func readAnswer(b []byte) answer {
	u16 := binary.NativeEndian.Uint16
	a := answer{ifindex: binary.NativeEndian.Uint32(b), reason: b[4], side: b[5], flags: b[6], bits: b[7],
		index: u16(b[8:]), service: u16(b[10:]), port: u16(b[12:]), tenant: u16(b[14:]), endpoint: [16]byte(b[16:32])}
	a.backup, a.hashed, a.matched = a.flags&1 != 0, a.flags&2 != 0, a.flags&4 != 0
	return a
}

// xdpContext is struct xdp_md, by which BPF_PROG_TEST_RUN is told where metadata ends and the packet begins.
type xdpContext struct {
	Data, DataEnd, DataMeta, Ingress, Queue, Egress uint32
}

// Lookup lets the program's twin decide on a frame made from q, over the maps that forward. The frame's metadata carries
// the question in and the answer out, so that lookups do not meet each other.
func (p *Plane) Lookup(q plane.Packet) (plane.Decision, error) {
	in, err := p.ingress(q)
	if err != nil {
		return plane.Decision{}, err
	}
	switch {
	case q.OtherMAC:
	case !q.Src.IsValid() || !q.Dst.IsValid():
		return plane.Decision{Reason: plane.PassNotIP}, nil
	case q.Src.Is4() != q.Dst.Is4(): // no frame can say so
		return plane.Decision{Reason: plane.DropMalformed}, nil
	}
	frame, err := p.question(q, in)
	if err != nil {
		return plane.Decision{}, err
	}
	out := make([]byte, len(frame)+64)
	run := ebpf.RunOptions{Data: frame, DataOut: out, Context: xdpContext{Data: answerSize, DataEnd: uint32(len(frame))}}
	if _, err := p.o.TdExplain.Run(&run); err != nil {
		return plane.Decision{}, fmt.Errorf("look up packet %v -> %v: run the program: %w", q.Src, q.Dst, err)
	}
	return decision(readAnswer(run.DataOut), q), nil
}

// question is the metadata and the frame.
func (p *Plane) question(q plane.Packet, in iface) ([]byte, error) {
	var now forwardIface
	if err := p.o.TdIfaces.Lookup(uint32(in.index), &now); err != nil {
		return nil, fmt.Errorf("look up interface %s: %w", in.Name, err)
	}
	dst, src := now.Mac, [6]byte{0x02, 0, 0, 0, 0, 0xfe}
	if q.OtherMAC {
		dst[5] ^= 0xff
		if q.Dst.Is4() != q.Src.Is4() || !q.Dst.IsValid() {
			q.Src, q.Dst = netip.IPv4Unspecified(), netip.IPv4Unspecified()
		}
	}
	if q.From != 0 {
		var l forwardLink
		if err := p.o.TdLinks.Lookup(linkIndex(q.From, q.Dst.Is6()), &l); err != nil {
			return nil, fmt.Errorf("look up the MAC address of real server %d: %w", q.From, err)
		}
		if l.Known != 0 {
			src = l.Mac
		}
	}
	frame, err := buildFrame(q, dst, src)
	if err != nil {
		return nil, err
	}
	meta := make([]byte, answerSize, answerSize+len(frame))
	binary.NativeEndian.PutUint32(meta, uint32(in.index))
	return append(meta, frame...), nil
}

func linkIndex(i affinity.Index, v6 bool) uint32 {
	if v6 {
		return 2*uint32(i) + 1
	}
	return 2 * uint32(i)
}

// ingress is the interface that q names, else the first with the role that q needs, else any.
func (p *Plane) ingress(q plane.Packet) (iface, error) {
	need := plane.RoleSubnet
	if p.isVIP(q.Dst) {
		need = plane.RoleTunnel
	}
	for _, i := range p.ifaces {
		if i.Name == q.Interface || q.Interface == "" && i.Roles&need != 0 {
			return i, nil
		}
	}
	if q.Interface != "" || len(p.ifaces) == 0 {
		return iface{}, fmt.Errorf("look up a packet by interface %q: the plane does not use it", q.Interface)
	}
	return p.ifaces[slices.IndexFunc(p.ifaces, func(i iface) bool { return i.Roles&need == 0 })], nil
}

func (p *Plane) isVIP(a netip.Addr) bool {
	if !a.IsValid() {
		return false
	}
	var v forwardLocal
	err := p.o.TdLocals.Lookup(encodeLocal(a), &v)
	return err == nil && v.Vip != 0
}

// decision words the answer as package plane has it.
func decision(a answer, q plane.Packet) plane.Decision {
	d := plane.Decision{Side: plane.Side(a.side), Reason: plane.Reason(a.reason), Service: a.service, Hashed: a.hashed}
	if d.Reason == plane.None {
		d.RealServer, d.Backup = affinity.Index(a.index), a.backup
	}
	switch {
	case !a.matched:
	case d.Side == plane.TunnelSide:
		addr := netip.AddrFrom16(a.endpoint)
		if q.Dst.Is4() {
			addr = addr.Unmap()
		}
		d.Endpoint = plane.EndpointKey{VIP: q.Dst, Addr: addr, Port: a.port}
	case d.Side == plane.SubnetSide:
		d.Subnet = plane.SubnetKey{Tenant: a.tenant, Prefix: netip.PrefixFrom(q.Dst, int(a.bits)).Masked()}
	}
	return d
}
