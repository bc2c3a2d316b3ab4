// Package mem is the data plane that forwards nothing: maps, linear scans and the packet's way of package plane written
// down rule by rule. It is the oracle that every other plane is held against, and the plane of tests that need no kernel.
//
// The Plane owns all it was told; one mutex guards it, because Lookup may come from any goroutine. It knows neither
// kernels nor MAC addresses: two real servers that share an address are taken for one machine.
package mem

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
)

// A Plane holds what it was told in maps. It implements plane.Plane and plane.Observer.
type Plane struct {
	interfaces []plane.Interface

	mu        sync.Mutex // guards all below
	config    plane.Config
	servers   map[affinity.Index]plane.RealServer
	endpoints map[plane.EndpointKey]plane.Target
	subnets   map[plane.SubnetKey]plane.Target
	stats     plane.Stats
	seen      map[plane.EndpointKey]time.Time
}

var (
	_ plane.Plane    = (*Plane)(nil)
	_ plane.Observer = (*Plane)(nil)
)

// New is an empty plane over these interfaces.
func New(interfaces []plane.Interface) *Plane {
	return &Plane{
		interfaces: slices.Clone(interfaces),
		servers:    map[affinity.Index]plane.RealServer{},
		endpoints:  map[plane.EndpointKey]plane.Target{},
		subnets:    map[plane.SubnetKey]plane.Target{},
		stats:      newStats(),
		seen:       map[plane.EndpointKey]time.Time{},
	}
}

// Apply programs u, or nothing of it if an entry is wrong.
func (m *Plane) Apply(_ context.Context, u plane.Update) error {
	for _, e := range u.Entries {
		if err := check(e); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if u.Config != nil {
		m.configure(*u.Config)
	}
	for _, e := range u.Entries {
		if !e.Delete {
			m.set(e)
		}
	}
	for _, e := range u.Entries {
		if e.Delete {
			m.remove(e)
		}
	}
	return nil
}

// Replace makes the plane hold exactly c and entries, or changes nothing if an entry is wrong.
func (m *Plane) Replace(_ context.Context, c plane.Config, entries iter.Seq[plane.Entry]) error {
	fresh := New(nil)
	for e := range entries {
		if err := check(e); err != nil {
			return err
		}
		fresh.set(e)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.configure(c)
	m.endpoints, m.subnets = fresh.endpoints, fresh.subnets
	maps.DeleteFunc(m.seen, func(k plane.EndpointKey, _ time.Time) bool { _, ok := m.endpoints[k]; return !ok })
	return nil
}

// SetAlive marks one incarnation, which Config must have named.
func (m *Plane) SetAlive(i affinity.Index, alive bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	rs, ok := m.servers[i]
	if !ok {
		return fmt.Errorf("set real server %d alive=%t: no such index in the configuration; apply the configuration that has it first", i, alive)
	}
	rs.Alive = alive
	m.servers[i] = rs
	return nil
}

// Close does nothing: what is held stays held.
func (m *Plane) Close() error { return nil }

func (m *Plane) configure(c plane.Config) {
	m.config = c
	m.servers = map[affinity.Index]plane.RealServer{}
	for _, rs := range c.RealServers {
		m.servers[rs.Index] = rs
	}
}

func (m *Plane) set(e plane.Entry) {
	if e.Endpoint.VIP.IsValid() {
		m.endpoints[e.Endpoint] = e.Target
	} else {
		m.subnets[e.Subnet] = e.Target
	}
}

func (m *Plane) remove(e plane.Entry) {
	if e.Endpoint.VIP.IsValid() {
		delete(m.endpoints, e.Endpoint)
		delete(m.seen, e.Endpoint)
	} else {
		delete(m.subnets, e.Subnet)
	}
}

// check refuses a key that no packet can ever match as its writer meant it.
func check(e plane.Entry) error {
	k := e.Endpoint
	switch {
	case k.VIP.IsValid() && (!k.Addr.IsValid() || k.VIP.Is4() != k.Addr.Is4()):
		return fmt.Errorf("apply endpoint %v at VIP %v: the two are not of one family", k.Addr, k.VIP)
	case !k.VIP.IsValid() && (!e.Subnet.Prefix.IsValid() || e.Subnet.Prefix != e.Subnet.Prefix.Masked()):
		return fmt.Errorf("apply subnet %v of tenant %d: not a canonical prefix; write %v", e.Subnet.Prefix, e.Subnet.Tenant, e.Subnet.Prefix.Masked())
	}
	return nil
}
