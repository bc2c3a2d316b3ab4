package ipvs

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"testing"
	"time"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
	"tunneldirector/director/plane/planetest"
)

func testInterfaces() []plane.Interface {
	return []plane.Interface{
		{Name: "tun0", Roles: plane.RoleTunnel}, {Name: "sub0", Roles: plane.RoleSubnet}, {Name: "blue0", Roles: plane.RoleSubnet, Tenant: "blue"},
		{Name: "rs0", Roles: plane.RoleRealServers},
		{Name: "all0", Roles: plane.RoleTunnel | plane.RoleSubnet | plane.RoleRealServers, Tenant: "green"},
	}
}

// testCaps are what planetest must not ask of IPVS.
func testCaps(m affinity.Method) planetest.Caps {
	protocols := []uint8{protoUDP, protoESP} // AH has a test of its own: IPVS knows it in IPv4 only, and a service has VIPs of both
	if m == affinity.Masq {
		protocols = protocols[:1]
	}
	return planetest.Caps{Methods: []affinity.Method{m}, NoVLANs: true, NoRing: true, NoFragments: true, NoICMP: true, NoLoops: m == affinity.Masq, NoSizes: true,
		NoPort500: true, Protocols: protocols, MaxPorts: 4, RestartForgets: true, PortsOnly: m == affinity.Masq}
}

// testHosts have both families each.
func testHosts() []planetest.Host {
	return slices.DeleteFunc(planetest.DefaultHosts(), func(h planetest.Host) bool { return len(h.Addrs) != 2 })
}

func open(k *kernel) *Plane {
	o, err := Options{Interfaces: testInterfaces()}.complete()
	if err != nil {
		panic(err)
	}
	return newPlane(o, parts{inject: k, lvs: k, routes: k, gate: filter{k}, log: lens{k}, survey: k, conns: k.table}, func() time.Time { return k.now })
}

// A witness answers Lookup only where the kernel does the same.
type witness struct {
	*Plane
	k *kernel
}

// Apply lets what was buried go, as anybody would see after a second.
func (w witness) Apply(ctx context.Context, u plane.Update) error {
	err := w.Plane.Apply(ctx, u)
	w.k.pass(graveShort)
	return err
}

func (w witness) Replace(ctx context.Context, c plane.Config, entries iter.Seq[plane.Entry]) error {
	err := w.Plane.Replace(ctx, c, entries)
	w.k.pass(graveShort)
	return err
}

// wait lets five minutes go by, with refreshes as Run makes them.
func (w witness) wait() {
	for range rounds + 1 {
		w.k.pass(w.shortest() / rounds)
		for shard := range shards {
			if !w.populated(shard) {
				continue
			}
			if err := w.refreshShard(context.Background(), shard); err != nil {
				panic(err)
			}
		}
	}
}

func (w witness) populated(shard int) bool {
	for _, v := range w.vips {
		if len(v.pins[shard]) > 0 {
			return true
		}
	}
	return false
}

func (w witness) Lookup(p plane.Packet) (plane.Decision, error) {
	d, err := w.Plane.Lookup(p)
	if err != nil || p.Interface == "" || d.Side == plane.NoSide {
		return d, err
	}
	switch d.Reason {
	case plane.DropHops, plane.DropSource, plane.DropRole, plane.PassControl, plane.DropICMP:
		return d, nil // the gate's and the kernel's own
	}
	var h hop
	var out bool
	if d.Side == plane.TunnelSide {
		h, out = w.k.tunnel(p)
	} else {
		h, out = w.k.lookup(p.Interface, p.Dst)
	}
	if sender, ok := address(w.Plane.servers[p.From], p.Dst.Is6()); ok && out && !h.hashed {
		macs, _ := w.k.Neighbours()
		out = !w.k.returns(macs[sender], h.to)
	}
	rs := w.Plane.servers[d.RealServer]
	switch {
	case out != (d.Reason == plane.None):
		return d, fmt.Errorf("Lookup says %v, the kernel forwards: %t", d.Reason, out)
	case out && d.Hashed != h.hashed:
		return d, fmt.Errorf("Lookup says hashed %t, the kernel %t", d.Hashed, h.hashed)
	case out && !h.hashed && !slices.Contains(rs.Addrs, h.to):
		return d, fmt.Errorf("Lookup says real server %d (%v), the kernel sends to %v", d.RealServer, rs.Addrs, h.to)
	case out && !h.hashed && (h.method == affinity.IPIP) != (rs.Method == affinity.IPIP):
		return d, fmt.Errorf("Lookup says method %v, the kernel %v", rs.Method, h.method)
	}
	return d, nil
}

func TestHistories(t *testing.T) {
	for _, m := range []affinity.Method{affinity.DR, affinity.IPIP, affinity.Masq} {
		t.Run(fmt.Sprint(m), func(t *testing.T) {
			k := newKernel()
			planetest.Run(t, planetest.Options{
				Interfaces: testInterfaces(), Hosts: testHosts(), Caps: testCaps(m), Histories: 150,
				Open: func(testing.TB) plane.Plane { return witness{open(k), k} },
			})
		})
	}
}
