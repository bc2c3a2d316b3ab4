package config

import (
	"fmt"
	"net/netip"

	"github.com/goccy/go-yaml/ast"

	"tunneldirector/affinity"
)

// Records are what an operator applies: virtual services, tenants and real servers, as wanted. Headers and numbers are
// given by the table.
type Records struct {
	Services    []affinity.Service
	Tenants     []affinity.Tenant
	RealServers []affinity.RealServer
}

// DefaultWeight is that of a real server whose weight is not said.
const DefaultWeight = 100

// ParseRecords reads a file of records: one or more YAML documents, each with lists of services, tenants and
// real_servers. The error is Faults: all that is wrong with the file, or with a record by itself. Whether records fit
// those that exist already is for the table to say.
func ParseRecords(data []byte) (Records, error) {
	var r reader
	var rec Records
	names := map[string]string{}
	docs := r.documents(data)
	for i, d := range docs {
		if len(docs) > 1 {
			d.path = fmt.Sprintf("document[%d]", i)
		}
		d.fields(
			field{"services", func(v value) {
				v.list(func(v value) {
					s := v.service()
					v.unique(names, "service", s.Name)
					rec.Services = append(rec.Services, s)
				})
			}},
			field{"tenants", func(v value) {
				v.list(func(v value) {
					n := v.tenantRecord()
					v.unique(names, "tenant", n.Name)
					rec.Tenants = append(rec.Tenants, n)
				})
			}},
			field{"real_servers", func(v value) {
				v.list(func(v value) {
					s := v.realServer()
					v.unique(names, "real server", s.Name)
					rec.RealServers = append(rec.RealServers, s)
				})
			}},
		)
	}
	if len(rec.Services)+len(rec.Tenants)+len(rec.RealServers) == 0 && len(r.Faults) == 0 {
		r.Fault("", nil, "holds no record; give services, tenants or real_servers")
	}
	if err := r.Err(); err != nil {
		return Records{}, err
	}
	return rec, nil
}

// unique refuses two records of one name.
func (v value) unique(names map[string]string, kind, name string) {
	key := kind + " " + name
	if name == "" && kind != "tenant" {
		return // it is missing, and that was said
	}
	if first, twice := names[key]; twice {
		v.r.FaultAt(v.path+".name", "%s %q stands in %s already", kind, name, first)
		return
	}
	names[key] = v.path
}

// judge adds a record's own faults, if it could be read at all: what was not understood would only be missed again.
func (v value) judge(before int, faults []affinity.Fault) {
	if len(v.r.Faults) > before {
		return
	}
	for _, f := range faults {
		value, remedy := "", ""
		if f.Value != "" {
			value = fmt.Sprintf("%q ", f.Value)
		}
		if f.Remedy != "" {
			remedy = "; " + f.Remedy
		}
		v.r.FaultAt(v.path+"."+f.Field, "%s%s%s", value, f.Problem, remedy)
	}
}

func (v value) service() (s affinity.Service) {
	before := len(v.r.Faults)
	v.fields(
		field{"name", func(v value) { v.string(&s.Name) }},
		field{"vips", func(v value) { v.addrs(&s.VIPs) }},
		field{"protocols", func(v value) {
			v.list(func(v value) {
				if m, ok := parsed(v, affinity.ParseMatch); ok {
					s.Match = append(s.Match, m)
				}
			})
		}},
		field{"method", func(v value) { s.Method, _ = parsed(v, affinity.ParseMethod) }},
		field{"unknown", func(v value) { s.Unknown, _ = parsed(v, affinity.ParseUnknown) }},
		field{"placement", func(v value) { s.Policy, _ = parsed(v, affinity.ParsePolicy) }},
		field{"learn", func(v value) { v.bool(&s.Learn) }},
		field{"max_unavailable", func(v value) { v.uint32(&s.MaxUnavailable, 0, 65535) }},
		field{"prefer", func(v value) { v.section(func(v value) { v.prefers(&s.Prefer) }) }},
	)
	v.judge(before, s.Faults())
	return s
}

func (v value) tenantRecord() (n affinity.Tenant) {
	before := len(v.r.Faults)
	named := false
	v.fields(
		field{"name", func(v value) { v.string(&n.Name); named = n.Name != "" }},
		field{"covers", func(v value) {
			v.list(func(v value) {
				if p, ok := v.prefix(); ok {
					n.Covers = append(n.Covers, p)
				}
			})
		}},
		field{"gateways", func(v value) { v.list(func(v value) { v.gateway(&n) }) }},
	)
	n.Name = tenantName(n.Name)
	faults := n.Faults()
	if !named {
		faults = append(faults, affinity.Fault{Field: "name", Problem: "is missing", Remedy: "default is the tenant of tunnels that name none"})
	}
	v.judge(before, faults)
	return n
}

func (v value) realServer() affinity.RealServer {
	before := len(v.r.Faults)
	s := affinity.RealServer{Weight: DefaultWeight}
	v.fields(
		field{"name", func(v value) { v.string(&s.Name) }},
		field{"host", func(v value) { v.string(&s.Host) }},
		field{"zone", func(v value) { v.string(&s.Zone) }},
		field{"addresses", func(v value) { v.addrs(&s.Addrs) }},
		field{"services", func(v value) {
			v.list(func(v value) {
				if name, ok := v.text(); ok {
					s.Services = append(s.Services, name)
				}
			})
		}},
		field{"weight", func(v value) { v.uint32(&s.Weight, 0, 65535) }},
		field{"capacity", func(v value) { v.uint32(&s.Capacity, 0, 1<<31) }},
		field{"vlans", func(v value) {
			v.section(func(v value) {
				s.VLANs = map[string]uint16{}
				v.pairs(func(tenant string, at ast.Node, v value) {
					if v.node == nil {
						v.r.Fault(v.path, at, "has no tag")
					} else if n, ok := v.number(1, 4094); ok {
						s.VLANs[tenantName(tenant)] = uint16(n)
					}
				})
			})
		}},
		field{"check", func(v value) { v.check(&s.Check) }},
	)
	if s.Host == "" {
		s.Host = s.Name
	}
	faults := s.Faults()
	if s.Name == "" {
		faults = withoutField(faults, "host") // it only repeats the name
	}
	v.judge(before, faults)
	return s
}

func withoutField(faults []affinity.Fault, field string) (list []affinity.Fault) {
	for _, f := range faults {
		if f.Field != field {
			list = append(list, f)
		}
	}
	return list
}

// check reads none, udp/51820, {udp: 51820} or {tcp: 443}.
func (v value) check(c *affinity.Check) {
	protos := map[string]uint8{"udp": 17, "tcp": 6}
	if _, isText := v.node.(*ast.StringNode); isText {
		s, _ := v.text()
		if s == "none" {
			return
		}
		m, err := affinity.ParseMatch(s)
		if err != nil || m.Lo != m.Hi || m.Lo == 0 {
			v.fault("%q is not a check; write none, {udp: 51820} or {tcp: 443}", s)
			return
		}
		*c = affinity.Check{Proto: m.Proto, Port: m.Lo}
		return
	}
	v.section(func(v value) {
		v.pairs(func(key string, at ast.Node, x value) {
			port := uint16(0)
			switch {
			case protos[key] == 0:
				x.faultKey(at, "unknown key; known here are udp, tcp")
			case c.Proto != 0:
				v.r.Fault(x.path, at, "is a second check; a real server has one")
			case x.node == nil:
				v.r.Fault(x.path, at, "lacks a port")
			default:
				x.uint16(&port, 1, 65535)
				*c = affinity.Check{Proto: protos[key], Port: port}
			}
		})
	})
}

func (v value) addrs(dst *[]netip.Addr) {
	v.list(func(v value) {
		if a, ok := v.addr(); ok {
			*dst = append(*dst, a)
		}
	})
}

// parsed reads a word by one of affinity's parsers.
func parsed[T any](v value, parse func(string) (T, error)) (x T, ok bool) {
	s, ok := v.text()
	if !ok {
		return x, false
	}
	x, err := parse(s)
	if err != nil {
		v.fault("%v", err)
		return x, false
	}
	return x, true
}
