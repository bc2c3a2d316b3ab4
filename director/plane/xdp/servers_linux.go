package xdp

import (
	"fmt"
	"maps"

	"github.com/cilium/ebpf"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
)

// servers is the array of incarnations as configured. How they are reached is in links, which Run owns.
type servers struct {
	m     *ebpf.Map
	vlans *ebpf.Map
	have  map[affinity.Index]forwardServer // what the array holds
}

func newServers(o *forwardObjects) *servers {
	return &servers{m: o.TdServers, vlans: o.TdServerVlan, have: map[affinity.Index]forwardServer{}}
}

// census reads what is there.
func (s *servers) census() error {
	t := table[uint32, forwardServer]{m: s.m, name: "td_servers"}
	return t.all(func(k uint32, v forwardServer) bool {
		if v != (forwardServer{}) {
			s.have[affinity.Index(k)] = v
		}
		return true
	})
}

func (s *servers) write(i affinity.Index, v forwardServer) error {
	if s.have[i] == v {
		return nil
	}
	k := uint32(i)
	if err := s.m.Put(&k, &v); err != nil {
		return fmt.Errorf("write real server %d: %w", i, err)
	}
	if v == (forwardServer{}) {
		delete(s.have, i)
	} else {
		s.have[i] = v
	}
	return nil
}

func (s *servers) setAlive(i affinity.Index, alive bool) error {
	v, ok := s.have[i]
	if !ok {
		return fmt.Errorf("set real server %d alive=%t: no such index in the configuration; apply the configuration that has it first", i, alive)
	}
	v.Alive = 0
	if alive {
		v.Alive = 1
	}
	return s.write(i, v)
}

func vlansOf(list []plane.RealServer) map[forwardServerVlanKey]uint32 {
	want := map[forwardServerVlanKey]uint32{}
	for _, rs := range list {
		for tenant, vlan := range rs.VLANs {
			want[forwardServerVlanKey{Index: uint16(rs.Index), Tenant: tenant}] = uint32(vlan)
		}
	}
	return want
}

func (s *servers) grow(list []plane.RealServer) error {
	if err := grow(s.vlans, vlansOf(list)); err != nil {
		return err
	}
	for _, rs := range list {
		if err := s.write(rs.Index, encodeServer(rs)); err != nil {
			return err
		}
	}
	return nil
}

func (s *servers) shrink(list []plane.RealServer) error {
	gone := maps.Clone(s.have)
	for _, rs := range list {
		delete(gone, rs.Index)
	}
	for i := range gone {
		if err := s.write(i, forwardServer{}); err != nil {
			return err
		}
	}
	return shrink(s.vlans, vlansOf(list))
}

func checkServers(list []plane.RealServer) error {
	for _, rs := range list {
		switch {
		case rs.Index == 0 || rs.Index > affinity.MaxIndex:
			return fmt.Errorf("configure real server %q: index %d is not between 1 and %d", rs.Name, rs.Index, affinity.MaxIndex)
		case rs.Method == affinity.Masq:
			return fmt.Errorf("configure real server %q: method masq is %w in plane xdp; use dr or tunnel", rs.Name, plane.ErrUnsupported)
		}
	}
	return nil
}
