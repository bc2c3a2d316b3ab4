package route

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// SetRoutes adds routes, or replaces ours of the same table, prefix and metric, in any order. It is idempotent; on an error
// the others are in place. One of somebody else is not replaced: the error wraps ErrForeign and names it.
func (t *Tables) SetRoutes(ctx context.Context, routes []Route) error {
	for _, r := range routes {
		if err := r.validate(); err != nil {
			return err
		}
	}
	var bad refusals
	var there []Route
	err := bulk(ctx, t.conn, slices.Values(routes), appendRoute(unix.NLM_F_CREATE|unix.NLM_F_EXCL), func(r Route, err error) {
		if errors.Is(err, unix.EEXIST) {
			there = append(there, r)
			return
		}
		bad.add("route", r, err)
	})
	if err != nil {
		return fmt.Errorf("set routes: %w", err)
	}
	if there, err = t.ours(there, &bad); err != nil {
		return fmt.Errorf("set routes: %w", err)
	}
	err = bulk(ctx, t.conn, slices.Values(there), appendRoute(unix.NLM_F_CREATE|unix.NLM_F_REPLACE), func(r Route, err error) { bad.add("route", r, err) })
	if err != nil {
		return fmt.Errorf("set routes: %w", err)
	}
	return bad.err()
}

// ours leaves out routes whose key is somebody else's.
func (t *Tables) ours(routes []Route, bad *refusals) ([]Route, error) {
	type key struct {
		table  uint32
		prefix netip.Prefix
		metric uint32
	}
	theirs := map[key]Foreign{}
	read := map[uint32]bool{}
	for _, r := range routes {
		if read[r.Table] {
			continue
		}
		read[r.Table] = true
		list, err := t.foreignIn(r.Table)
		if err != nil {
			return nil, err
		}
		for _, f := range list {
			theirs[key{f.Table, f.Prefix, f.Metric}] = f
		}
	}
	return slices.DeleteFunc(routes, func(r Route) bool {
		f, foreign := theirs[key{r.Table, r.Prefix, r.Metric}]
		if foreign {
			bad.add("route", r, fmt.Errorf("%w (route protocol %d)", ErrForeign, f.Protocol))
		}
		return foreign
	}), nil
}

// foreignIn is what others had in a table when it was first asked for.
func (t *Tables) foreignIn(table uint32) ([]Foreign, error) {
	t.mu.Lock()
	list, known := t.foreign[table]
	t.mu.Unlock()
	if known {
		return list, nil
	}
	return t.Foreign(table)
}

// DeleteRoutes deletes ours of the same table, prefix and metric, whatever their nexthop. One that is not there is as good as
// deleted.
func (t *Tables) DeleteRoutes(ctx context.Context, routes []Route) error {
	for _, r := range routes {
		if err := r.validate(); err != nil {
			return err
		}
	}
	var bad refusals
	err := bulk(ctx, t.conn, slices.Values(routes), func(b []byte, r Route) []byte {
		b = appendRtmsg(begin(b, unix.RTM_DELROUTE, 0), r, unix.RTN_UNSPEC, scopeAny)
		return attr32(b, unix.RTA_PRIORITY, r.Metric)
	}, func(r Route, err error) {
		if !errors.Is(err, unix.ESRCH) {
			bad.add("delete route", r, err)
		}
	})
	if err != nil {
		return fmt.Errorf("delete routes: %w", err)
	}
	return bad.err()
}

func appendRoute(flags uint16) func([]byte, Route) []byte {
	return func(b []byte, r Route) []byte {
		kind := byte(unix.RTN_UNICAST)
		if r.Nexthop == 0 {
			kind = unix.RTN_BLACKHOLE
		}
		b = appendRtmsg(begin(b, unix.RTM_NEWROUTE, flags), r, kind, unix.RT_SCOPE_UNIVERSE)
		b = attr32(b, unix.RTA_PRIORITY, r.Metric)
		if r.Nexthop != 0 {
			b = attr32(b, rtaNHID, r.Nexthop)
		}
		return b
	}
}

func appendRtmsg(b []byte, r Route, kind, scope byte) []byte {
	b = append(b, family(r.Prefix.Addr().Is6()), byte(r.Prefix.Bits()), 0, 0, unix.RT_TABLE_UNSPEC, Protocol, scope, kind)
	b = native.AppendUint32(b, 0)
	b = attrAddr(b, unix.RTA_DST, r.Prefix.Addr())
	return attr32(b, unix.RTA_TABLE, r.Table)
}

// Routes reads ours: those of one table, or with 0 of all. The kernel picks them by protocol and table, so that other
// tables, however full, cost (next to) nothing.
func (t *Tables) Routes(table uint32) iter.Seq2[Route, error] {
	return func(yield func(Route, error) bool) {
		stopped := false
		err := t.routes(table, Protocol, func(f Foreign) bool {
			stopped = !yield(f.Route, nil)
			return !stopped
		})
		if err != nil && !stopped {
			yield(Route{}, fmt.Errorf("read routes: %w", err))
		}
	}
}

// A Foreign is a route that is not ours. Its Nexthop is 0 unless it leads to a nexthop object.
type Foreign struct {
	Route
	Protocol uint8 // include/uapi/linux/rtnetlink.h, RTPROT_
}

// Foreign reads what others have put into a table, and what SetRoutes leaves alone from then on.
func (t *Tables) Foreign(table uint32) ([]Foreign, error) {
	list := []Foreign{}
	err := t.routes(table, 0, func(f Foreign) bool {
		if f.Protocol != Protocol {
			list = append(list, f)
		}
		return true
	})
	if err != nil {
		return nil, fmt.Errorf("read routes of table %d: %w", table, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.foreign[table] = list
	return list, nil
}

// routes calls f for the routes of a table and a protocol, both families, until f returns false; 0 is any.
func (t *Tables) routes(table uint32, protocol uint8, f func(Foreign) bool) error {
	for _, v6 := range []bool{false, true} {
		b := begin(nil, unix.RTM_GETROUTE, 0)
		b = append(b, family(v6), 0, 0, 0, unix.RT_TABLE_UNSPEC, protocol, 0, 0, 0, 0, 0, 0)
		if table != 0 {
			b = attr32(b, unix.RTA_TABLE, table)
		}
		more := true
		err := t.read(b, func(kind uint16, body []byte) bool {
			// Without a table filter IPv6 includes clones of its own (cache entries).
			if r, ok := parseRoute(kind, body); ok && (protocol == 0 || r.Protocol == protocol) {
				more = f(r)
			}
			return more
		})
		if errors.Is(err, unix.ENOENT) {
			err = nil // there is no such table (yet)
		}
		if err != nil || !more {
			return err
		}
	}
	return nil
}

// parseRoute reads an RTM_NEWROUTE.
func parseRoute(kind uint16, body []byte) (f Foreign, ok bool) {
	if kind != unix.RTM_NEWROUTE || len(body) < unix.SizeofRtMsg {
		return f, false
	}
	bits, dst := int(body[1]), netip.IPv4Unspecified()
	if body[0] == unix.AF_INET6 {
		dst = netip.IPv6Unspecified()
	}
	f.Table, f.Protocol = uint32(body[4]), body[5]
	attributes(body[unix.SizeofRtMsg:], func(kind uint16, data []byte) {
		switch kind {
		case unix.RTA_DST:
			dst = address(data)
		case unix.RTA_TABLE:
			f.Table = u32(data)
		case unix.RTA_PRIORITY:
			f.Metric = u32(data)
		case rtaNHID:
			f.Nexthop = u32(data)
		}
	})
	f.Prefix = netip.PrefixFrom(dst, bits)
	return f, f.Prefix.IsValid()
}
