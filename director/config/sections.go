package config

import (
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

func (v value) config(c *Config) {
	v.fields(
		field{"name", func(v value) { v.name(&c.Name) }},
		field{"data_dir", func(v value) { v.file(&c.DataDir) }},
		field{"plane", func(v value) { v.oneOf(&c.Plane, PlaneAuto, PlaneIPVS, PlaneXDP, PlaneShadow, PlaneMem) }},
		field{"interfaces", func(v value) {
			v.list(func(v value) { c.Interfaces = append(c.Interfaces, v.iface()) })
		}},
		field{"api", func(v value) { v.section(func(v value) { v.api(&c.API) }) }},
		field{"metrics", func(v value) { v.section(func(v value) { v.metrics(&c.Metrics) }) }},
		field{"agents", func(v value) { v.section(func(v value) { v.agents(&c.Agents) }) }},
		field{"cluster", func(v value) { v.section(func(v value) { c.Cluster = v.cluster() }) }},
		field{"probe", func(v value) { v.section(func(v value) { v.probe(&c.Probe) }) }},
		field{"limits", func(v value) { v.section(func(v value) { v.limits(&c.Limits) }) }},
		field{"ipvs", func(v value) { v.section(func(v value) { v.ipvs(&c.IPVS) }) }},
		field{"store", func(v value) { v.section(func(v value) { v.store(&c.Store) }) }},
		field{"journal", func(v value) { v.section(func(v value) { v.journal(&c.Journal) }) }},
		field{"blackbox", func(v value) { v.section(func(v value) { v.blackBox(&c.BlackBox) }) }},
		field{"drill", func(v value) { v.section(func(v value) { v.drill(&c.Drill) }) }},
		field{"log", func(v value) { v.section(func(v value) { v.log(&c.Log) }) }},
	)
}

// section reads a mapping unless it is empty, as it is when all in it is commented out.
func (v value) section(read func(value)) {
	if v.node != nil {
		read(v)
	}
}

func (v value) iface() (i Interface) {
	v.fields(
		field{"name", func(v value) { v.ifaceName(&i.Name) }},
		field{"roles", func(v value) {
			v.list(func(v value) {
				role := ""
				if v.oneOf(&role, RoleTunnel, RoleSubnet, RoleRealServers); role != "" {
					i.Roles = append(i.Roles, role)
				}
			})
		}},
		field{"tenant", func(v value) { v.tenant(&i.Tenant) }},
		field{"vlans", func(v value) {
			i.VLANs = map[uint16]string{}
			v.section(func(v value) {
				v.pairs(func(key string, at ast.Node, v value) {
					tag, ok := v.vlanTag(key, at)
					tenant := ""
					if v.node == nil {
						v.r.Fault(v.path, at, "names no tenant")
					} else if v.tenant(&tenant) && ok {
						i.VLANs[tag] = tenant
					}
				})
			})
		}},
	)
	return i
}

// vlanTag reads a key that is an 802.1Q tag.
func (v value) vlanTag(key string, at ast.Node) (uint16, bool) {
	n, err := strconv.ParseUint(key, 10, 16)
	if err != nil || n < 1 || n > 4094 {
		v.r.Fault(v.path, at, "%q is not a VLAN tag between 1 and 4094", key)
		return 0, false
	}
	return uint16(n), true
}

// ifaceName follows the kernel's dev_valid_name.
func (v value) ifaceName(dst *string) {
	s, ok := v.text()
	if !ok {
		return
	}
	if s == "" || len(s) > 15 || s == "." || s == ".." || strings.ContainsAny(s, "/: \t\n\v\f\r\x00") {
		v.fault("%q is not the name of a network interface", s)
		return
	}
	*dst = s
}

func (v value) api(a *API) {
	v.fields(
		field{"socket", func(v value) { v.section(func(v value) { v.socket(&a.Socket) }) }},
		field{"listen", func(v value) {
			v.list(func(v value) {
				if s, ok := v.hostPort(); ok {
					a.Listen = append(a.Listen, s)
				}
			})
		}},
		field{"tls", func(v value) {
			v.section(func(v value) {
				v.fields(
					field{"cert", func(v value) { v.file(&a.TLS.Cert) }},
					field{"key", func(v value) { v.file(&a.TLS.Key) }},
				)
			})
		}},
		field{"tokens_file", func(v value) { v.file(&a.TokensFile) }},
	)
}

func (v value) socket(s *Socket) {
	v.fields(
		field{"path", func(v value) {
			if text, ok := v.text(); ok && text == "none" {
				s.Path = ""
			} else if ok {
				v.file(&s.Path)
			}
			if len(s.Path) > 107 {
				v.fault("has %d bytes; the path of a unix socket has at most 107", len(s.Path))
			}
		}},
		field{"mode", func(v value) { v.mode(&s.Mode) }},
		field{"group", func(v value) { v.string(&s.Group) }},
	)
}

func (v value) metrics(m *Metrics) {
	v.fields(field{"listen", func(v value) {
		if s, ok := v.hostPort(); ok {
			m.Listen = s
		}
	}})
}

func (v value) agents(a *Agents) {
	v.fields(
		field{"listen", func(v value) {
			v.list(func(v value) {
				s, _ := v.hostPort()
				a.Listen = append(a.Listen, s) // a faulty one, too: the others keep their places
			})
		}},
		field{"tls", func(v value) { v.section(func(v value) { v.mutualTLS(&a.TLS) }) }},
	)
}

func (v value) mutualTLS(t *MutualTLS) {
	v.fields(
		field{"cert", func(v value) { v.file(&t.Cert) }},
		field{"key", func(v value) { v.file(&t.Key) }},
		field{"ca", func(v value) { v.file(&t.CA) }},
	)
}

func (v value) probe(p *Probe) {
	v.fields(
		field{"interval", func(v value) { v.duration(&p.Interval, 10*time.Millisecond, time.Minute) }},
		field{"timeout", func(v value) { v.duration(&p.Timeout, time.Millisecond, time.Minute) }},
		field{"dead_after", func(v value) { v.int(&p.DeadAfter, 2, 100) }},
		field{"alive_after", func(v value) { v.int(&p.AliveAfter, 1, 1000) }},
	)
}

func (v value) limits(l *Limits) {
	v.fields(
		field{"max_delete", func(v value) { v.percent(&l.MaxDelete) }},
		field{"max_pins", func(v value) { v.uint32(&l.MaxPins, 1000, 1<<26) }},
		field{"max_subnets", func(v value) { v.uint32(&l.MaxSubnets, 1000, 1<<26) }},
	)
}

// percent reads 10 and "10%".
func (v value) percent(dst *int) {
	if s, ok := v.node.(*ast.StringNode); ok {
		n, err := strconv.Atoi(strings.TrimSuffix(s.Value, "%"))
		if err != nil || n < 0 || n > 100 || !strings.HasSuffix(s.Value, "%") {
			v.fault("%q is not a percentage between 0 and 100", s.Value)
			return
		}
		*dst = n
		return
	}
	v.int(dst, 0, 100)
}

func (v value) ipvs(p *IPVS) {
	v.fields(
		field{"pairs", func(v value) { v.pairPrefixes(p) }},
		field{"timeout", func(v value) { v.duration(&p.Timeout, time.Minute, 30*24*time.Hour) }},
		field{"set_sysctls", func(v value) { v.bool(&p.SetSysctls) }},
	)
}

// pairPrefixes reads one prefix of each family at most. What a few real servers need of it is a few hundred addresses.
func (v value) pairPrefixes(p *IPVS) {
	families := map[bool]bool{}
	v.list(func(v value) {
		prefix, ok := v.prefix()
		if !ok {
			return
		}
		a := prefix.Addr()
		dst, longest := &p.Pairs6, 112
		if a.Is4() {
			dst, longest = &p.Pairs4, 20
		}
		switch {
		case a.Is4In6() || a.IsMulticast() || a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsUnspecified():
			v.fault("%s: addresses in it are not routed; write a private or a reserved prefix", prefix)
		case prefix != prefix.Masked():
			v.fault("%s has host bits set; write %s", prefix, prefix.Masked())
		case prefix.Bits() > longest:
			v.fault("%s is too small: there is an address for each pair of real servers; at most /%d", prefix, longest)
		case families[a.Is4()]:
			v.fault("%s is the second of its family; one IPv4 and one IPv6 prefix", prefix)
		default:
			*dst = prefix
		}
		families[a.Is4()] = true
	})
}

func (v value) store(s *Store) {
	v.fields(field{"reserve", func(v value) { v.size(&s.Reserve, 64<<20, 1<<40) }})
}

func (v value) log(l *Log) {
	v.fields(
		field{"level", func(v value) {
			levels := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}
			word := ""
			if v.oneOf(&word, "debug", "info", "warn", "error"); word != "" {
				l.Level = levels[word]
			}
		}},
		field{"format", func(v value) { v.oneOf(&l.Format, "text", "json") }},
	)
}
