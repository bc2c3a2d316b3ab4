package planetest

import (
	"bytes"
	"net"
	"slices"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
	"tunneldirector/director/plane/frame"
	"tunneldirector/director/plane/mem"
)

// siteMAC is what frames come from that no real server sent.
func siteMAC() net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 5, 0, 9} }

func (r *rig) inject(oracle *mem.Plane, p plane.Packet, want plane.Decision) error {
	in, err := r.frame(p)
	if err != nil {
		return err
	}
	r.tally.frames++
	out, err := r.opt.Inject(bytes.Clone(in), p.Interface)
	if err != nil {
		return err
	}
	e := expectation{packet: p, want: want, in: in, sources: r.opt.Sources, caps: r.opt.Caps}
	e.fits = func(size int) bool {
		p.Size = size
		d, err := oracle.Lookup(p)
		return err == nil && d.Reason == plane.None
	}
	e.server, e.host = r.server(want.RealServer)
	return e.check(out)
}

// frame is p's, from the machine that p is from to the interface.
func (r *rig) frame(p plane.Packet) ([]byte, error) {
	macs := frame.MACs{Src: siteMAC(), Dst: r.mac(p.Interface)}
	if _, host := r.server(p.From); host != nil {
		macs.Src = host.MAC
	}
	return frame.Build(p, macs)
}

func (r *rig) mac(iface string) net.HardwareAddr {
	if m := r.opt.MACs[iface]; m != nil {
		return m
	}
	return DefaultMAC()
}

// server is the real server with an index, and the machine it is on.
func (r *rig) server(i affinity.Index) (*plane.RealServer, *Host) {
	n := slices.IndexFunc(r.servers, func(rs plane.RealServer) bool { return rs.Index == i })
	if n < 0 {
		return nil, nil
	}
	rs := &r.servers[n]
	h := slices.IndexFunc(r.opt.Hosts, func(h Host) bool { return slices.Equal(h.Addrs, rs.Addrs) })
	if h < 0 {
		return rs, nil
	}
	return rs, &r.opt.Hosts[h]
}
