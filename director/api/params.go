package api

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"tunneldirector/affinity"
)

// paramFaults are what is wrong with a query, all of it, by the operation's own description.
func paramFaults(o *huma.Operation, q url.Values) (f faults) {
	var known []string
	for _, p := range o.Parameters {
		if p.In == "query" {
			known = append(known, p.Name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(q)) {
		i := slices.IndexFunc(o.Parameters, func(p *huma.Param) bool { return p.In == "query" && p.Name == name })
		switch {
		case i < 0 && len(known) == 0:
			f.add(name, q.Get(name), "is not a known parameter", "there are none here")
		case i < 0:
			f.add(name, q.Get(name), "is not a known parameter", "known are "+strings.Join(known, ", "))
		default:
			f.param(o.Parameters[i], q[name])
		}
	}
	return f
}

func (f *faults) param(p *huma.Param, values []string) {
	s := p.Schema
	if s.Type == huma.TypeArray {
		s = s.Items
	} else if len(values) > 1 {
		f.add(p.Name, values[1], "stands twice", "once is enough")
	}
	for _, v := range values {
		switch {
		case v == "" && slices.Contains(s.Enum, any("")):
		case v == "":
			f.add(p.Name, "", "is empty", "leave it out, or say "+wanted(p, s))
		case !allows(s, v):
			f.add(p.Name, v, "is not "+wanted(p, s), wanted(p, s))
		}
	}
}

func allows(s *huma.Schema, v string) bool {
	switch {
	case len(s.Enum) > 0:
		return slices.Contains(s.Enum, any(v))
	case s.Type == huma.TypeBoolean:
		_, err := strconv.ParseBool(v)
		return err == nil
	case s.Type == huma.TypeInteger:
		if s.Minimum != nil && *s.Minimum >= 0 {
			n, err := strconv.ParseUint(v, 10, 64)
			return err == nil && float64(n) >= *s.Minimum && (s.Maximum == nil || float64(n) <= *s.Maximum)
		}
		_, err := strconv.ParseInt(v, 10, 64)
		return err == nil
	case s.MaxLength != nil:
		return len(v) <= *s.MaxLength
	}
	return true
}

// wanted says what a parameter takes.
func wanted(p *huma.Param, s *huma.Schema) string {
	switch {
	case len(s.Enum) > 0:
		var words []string
		for _, e := range s.Enum {
			if w := fmt.Sprint(e); w != "" {
				words = append(words, w)
			}
		}
		return "one of " + strings.Join(words, ", ")
	case s.Type == huma.TypeBoolean:
		return "true or false"
	case s.Type == huma.TypeInteger && s.Minimum != nil && s.Maximum != nil:
		return fmt.Sprintf("a whole number from %.0f to %.0f", *s.Minimum, *s.Maximum)
	case s.Type == huma.TypeInteger:
		return "a whole number from 0"
	case s.MaxLength != nil:
		return fmt.Sprintf("at most %d bytes", *s.MaxLength)
	case p.Description != "":
		return p.Description
	}
	return "a value"
}

// known names what there is, the first of it.
func known[T any](list []T, name func(T) string) string {
	const most = 20
	var names []string
	for _, x := range list {
		if len(names) == most {
			names = append(names, fmt.Sprintf("and %d more", len(list)-most))
			break
		}
		names = append(names, name(x))
	}
	if len(names) == 0 {
		return "there are none yet"
	}
	return "known are " + strings.Join(names, ", ")
}

// names adds a fault for each filter that names what does not exist: it would find nothing for ever.
func (in *listInput) names(t *affinity.Table, f *faults) {
	if _, ok := t.Service(in.Service); in.Service != "" && !ok {
		f.add("service", in.Service, "is not a service", known(t.Services(), func(s *affinity.Service) string { return s.Name }))
	}
	f.realServer(t, in.RealServer)
	if _, ok := t.Tenant(tenantName(in.Tenant)); in.Tenant != "" && in.Tenant != defaultTenant && !ok {
		f.add("tenant", in.Tenant, "is not a tenant", known(t.Tenants(), func(n *affinity.Tenant) string { return tenantWord(n.Name) }))
	}
}

func (f *faults) realServer(t *affinity.Table, name string) {
	if _, ok := t.RealServer(name); name != "" && !ok {
		f.add("real_server", name, "is not a real server", known(t.RealServers(), func(r *affinity.RealServer) string { return r.Name }))
	}
}
