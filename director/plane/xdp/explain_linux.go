package xdp

import (
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/cilium/ebpf"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
	"tunneldirector/director/plane/frame"
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
		return plane.Decision{Reason: plane.PassMAC}, nil // whatever else it says, and no frame may be able to say that
	case !q.Src.IsValid() || !q.Dst.IsValid():
		return plane.Decision{Reason: plane.PassNotIP}, nil
	case q.Src.Is4() != q.Dst.Is4(): // no frame can say so
		return plane.Decision{Reason: plane.DropMalformed}, nil
	}
	ask, err := p.question(q, in)
	if err != nil {
		return plane.Decision{}, err
	}
	out := make([]byte, len(ask)+64)
	run := ebpf.RunOptions{Data: ask, DataOut: out, Context: xdpContext{Data: answerSize, DataEnd: uint32(len(ask))}}
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
	if q.From != 0 {
		mac, known, err := p.macOf(q.From, q.Dst.Is6())
		if err != nil {
			return nil, err
		}
		if known {
			src = mac
		}
	}
	bytes, err := frame.Build(q, frame.MACs{Src: src[:], Dst: dst[:]})
	if err != nil {
		return nil, err
	}
	meta := make([]byte, answerSize, answerSize+len(bytes))
	binary.NativeEndian.PutUint32(meta, uint32(in.index))
	if q.Interface == "" && q.Tenant != "" {
		number, ok := p.tenantNumber(q.Tenant)
		if meta[6] = askTenant; !ok {
			meta[6] = askNoTenant
		}
		binary.NativeEndian.PutUint16(meta[14:], number)
	}
	return append(meta, bytes...), nil
}

// What a question's flags may say instead of the interface and the tag.
const (
	askTenant   = 8
	askNoTenant = 16
)

// tenantNumber is what the program takes a tenant's name for: what it knows by an interface is read from there, so that a
// restart changes no answer.
func (p *Plane) tenantNumber(name string) (uint16, bool) {
	for _, i := range p.ports.all() {
		names := maps.Clone(i.VLANs)
		if names == nil {
			names = map[uint16]string{}
		}
		names[0] = i.Tenant
		for tag, n := range names {
			var number uint32
			if n == name && p.o.TdVlans.Lookup(forwardVlanKey{Ifindex: uint32(i.index), Vlan: uint32(tag)}, &number) == nil {
				return uint16(number), true
			}
		}
	}
	number, ok := p.numbers.Load().tenant[name]
	return number, ok
}

// macOf is the MAC address by which the program knows a real server.
func (p *Plane) macOf(i affinity.Index, v6 bool) (mac [6]byte, known bool, err error) {
	var s forwardServer
	var l forwardLink
	if err = p.o.TdServers.Lookup(uint32(i), &s); err == nil {
		err = p.o.TdLinks.Lookup(linkIndex(i, v6), &l)
	}
	if err != nil {
		return mac, false, fmt.Errorf("look up the MAC address of real server %d: %w", i, err)
	}
	tag := s.Tag4
	if v6 {
		tag = s.Tag6
	}
	return l.Mac, l.Known != 0 && l.Tag == tag, nil
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
	list := p.ports.all()
	for _, i := range list {
		if i.Name == q.Interface || q.Interface == "" && i.Roles&need != 0 {
			return i, nil
		}
	}
	if q.Interface != "" || len(list) == 0 {
		return iface{}, fmt.Errorf("look up a packet by interface %q: the plane does not use it", q.Interface)
	}
	return list[slices.IndexFunc(list, func(i iface) bool { return i.Roles&need == 0 })], nil
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
