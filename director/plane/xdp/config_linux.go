package xdp

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/cilium/ebpf"

	"tunneldirector/director/plane"
)

const (
	maxRules    = 64 // of one VIP; types.h
	maxServices = 64
)

// small is what a configuration becomes but for real servers: addresses, services, rings, tenants.
type small struct {
	o     *forwardObjects
	ports *ports
	vips  map[netip.Addr]uint16 // numbers in pin keys; last as long as the VIP or a pin at it
	// locals is what td_locals is to hold.
	locals map[forwardLocalKey]forwardLocal
	// tenants are numbers by name.
	tenants map[string]uint16
}

func newSmall(o *forwardObjects, ports *ports) *small {
	return &small{o: o, ports: ports, vips: map[netip.Addr]uint16{}, locals: map[forwardLocalKey]forwardLocal{}}
}

// census reads the VIPs' numbers and the addresses of the configuration before.
func (s *small) census() (err error) {
	numbers, err := readSmall[forwardLocalKey, uint32](s.o.TdVips)
	if err != nil {
		return err
	}
	for k, n := range numbers {
		s.vips[decodeLocal(k)] = uint16(n)
	}
	s.locals, err = readSmall[forwardLocalKey, forwardLocal](s.o.TdLocals)
	return err
}

// number is the VIP's number; a new one gets the lowest that is free.
func (s *small) number(vip netip.Addr) (uint16, error) {
	if n, ok := s.vips[vip]; ok {
		return n, nil
	}
	used := slices.Sorted(maps.Values(s.vips))
	n := uint16(1)
	for _, u := range used {
		if u == n {
			n++
		}
	}
	k, v := encodeLocal(vip), uint32(n)
	if err := s.o.TdVips.Put(&k, &v); err != nil {
		return 0, fmt.Errorf("number VIP %v (%d at most): %w", vip, s.o.TdVips.MaxEntries(), err)
	}
	s.vips[vip] = n
	return n, nil
}

func (s *small) known(vip netip.Addr) (uint16, bool) {
	n, ok := s.vips[vip]
	return n, ok
}

// forget frees the numbers of VIPs that are neither configured nor in any pin.
func (s *small) forget(pins map[uint16]int) error {
	for vip, n := range s.vips {
		k := encodeLocal(vip)
		if s.locals[k].Vip != 0 || pins[n] > 0 {
			continue
		}
		if err := s.o.TdVips.Delete(&k); err != nil {
			return fmt.Errorf("forget VIP %v: %w", vip, err)
		}
		delete(s.vips, vip)
	}
	return nil
}

// ported marks a VIP as having pins with ports.
func (s *small) ported(vip netip.Addr) error {
	k := encodeLocal(vip)
	v, ok := s.locals[k]
	if !ok || v.Vip == 0 || v.ByPort == 1 {
		return nil
	}
	v.ByPort = 1
	if err := s.o.TdLocals.Put(&k, &v); err != nil {
		return fmt.Errorf("mark VIP %v: %w", vip, err)
	}
	s.locals[k] = v
	return nil
}

// read makes locals and tenants what c says.
func (s *small) read(c *plane.Config, byPort map[uint16]int) error {
	locals := map[forwardLocalKey]forwardLocal{}
	for _, a := range c.Own {
		locals[encodeLocal(a)] = forwardLocal{Own: 1}
	}
	services := slices.SortedFunc(slices.Values(c.Services), func(a, b plane.Service) int { return cmp.Compare(a.Num, b.Num) })
	for _, service := range services {
		for _, vip := range service.VIPs {
			n, err := s.number(vip)
			if err != nil {
				return err
			}
			k := encodeLocal(vip)
			v := locals[k]
			v.Vip = n
			if byPort[n] > 0 {
				v.ByPort = 1
			}
			if err := addRules(&v, service); err != nil {
				return fmt.Errorf("configure service %q at VIP %v: %w", service.Name, vip, err)
			}
			locals[k] = v
		}
	}
	s.locals = locals
	s.tenants = numbersOf(c.Tenants)
	return nil
}

func addRules(v *forwardLocal, s plane.Service) error {
	for _, m := range s.Match {
		if v.Rules == maxRules {
			return fmt.Errorf("more than %d protocols and port ranges at one VIP: join ranges, or use another VIP", maxRules)
		}
		r := forwardRule{Proto: m.Proto, Lo: m.Lo, Hi: m.Hi, Service: s.Num}
		if len(s.Ring) > 0 {
			r.Ring = 1
		}
		v.Rule[v.Rules] = r
		v.Rules++
	}
	return nil
}

func numbersOf(tenants []plane.Tenant) map[string]uint16 {
	numbers := map[string]uint16{"": 0}
	for _, t := range tenants {
		if t.Name != "" {
			numbers[t.Name] = t.Num
		}
	}
	return numbers
}

// vlans says which tenant is told by which tag of which interface; tag 0 is none. The lock of ports is held.
func (s *small) vlans() map[forwardVlanKey]uint32 {
	want := map[forwardVlanKey]uint32{}
	for _, i := range s.ports.all() {
		if i.Roles&plane.RoleSubnet == 0 {
			continue
		}
		names := maps.Clone(i.VLANs)
		if names == nil {
			names = map[uint16]string{}
		}
		names[0] = i.Tenant
		for tag, name := range names {
			if n, ok := s.tenants[name]; ok {
				want[forwardVlanKey{Ifindex: uint32(i.index), Vlan: uint32(tag)}] = uint32(n)
			}
		}
	}
	return want
}

func checkServices(list []plane.Service) error {
	for _, s := range list {
		switch {
		case s.Num == 0 || s.Num > maxServices:
			return fmt.Errorf("configure service %q: number %d is not between 1 and %d", s.Name, s.Num, maxServices)
		case len(s.Ring) != 0 && len(s.Ring) != plane.RingSize:
			return fmt.Errorf("configure service %q: a ring of %d slots; it has %d or none", s.Name, len(s.Ring), plane.RingSize)
		}
	}
	return nil
}

// grow adds and changes: rings before the rules that name them.
func (s *small) grow(c *plane.Config) error {
	for _, service := range c.Services {
		if err := s.writeRing(service); err != nil {
			return err
		}
	}
	if err := grow(s.o.TdLocals, s.locals); err != nil {
		return err
	}
	s.ports.mu.Lock()
	defer s.ports.mu.Unlock()
	return grow(s.o.TdVlans, s.vlans())
}

func (s *small) shrink() error {
	if err := shrink(s.o.TdLocals, s.locals); err != nil {
		return err
	}
	s.ports.mu.Lock()
	defer s.ports.mu.Unlock()
	return shrink(s.o.TdVlans, s.vlans())
}

func (s *small) writeRing(service plane.Service) error {
	if len(service.Ring) == 0 {
		return nil
	}
	keys, values := make([]uint32, plane.RingSize), make([]forwardTarget, plane.RingSize)
	for i, t := range service.Ring {
		keys[i], values[i] = uint32(service.Num)*plane.RingSize+uint32(i), encodeTarget(t)
	}
	if _, err := s.o.TdRings.BatchUpdate(keys, values, &ebpf.BatchOptions{}); err != nil {
		return fmt.Errorf("write the ring of service %q: %w", service.Name, err)
	}
	return nil
}
