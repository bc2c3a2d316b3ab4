package route

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// SetRules makes our rules these, by difference: what is missing is added before what is too much is deleted.
func (t *Tables) SetRules(ctx context.Context, rules []Rule) error {
	for _, r := range rules {
		if err := r.validate(); err != nil {
			return err
		}
	}
	have, _, err := t.Rules()
	if err != nil {
		return err
	}
	without := func(list, of []Rule) []Rule {
		return slices.DeleteFunc(slices.Clone(list), func(r Rule) bool { return slices.Contains(of, r) })
	}
	var bad refusals
	change := func(act string, list []Rule, kind, flags uint16, fine error) error {
		return bulk(ctx, t.conn, slices.Values(list), func(b []byte, r Rule) []byte {
			return appendRule(begin(b, kind, flags), r)
		}, func(r Rule, err error) {
			if !errors.Is(err, fine) {
				bad.add(act, r, err)
			}
		})
	}
	err = change("add", without(rules, have), unix.RTM_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, unix.EEXIST)
	if err == nil {
		err = change("delete", without(have, rules), unix.RTM_DELRULE, 0, unix.ENOENT)
	}
	if err != nil {
		return fmt.Errorf("set rules: %w", err)
	}
	return bad.err()
}

func appendRule(b []byte, r Rule) []byte {
	bits := 0
	if r.To.IsValid() {
		bits = r.To.Bits()
	}
	b = append(b, family(r.V6), byte(bits), 0, 0, unix.RT_TABLE_UNSPEC, 0, 0, ruleToTable, 0, 0, 0, 0)
	if r.To.IsValid() {
		b = attrAddr(b, unix.FRA_DST, r.To.Addr())
	}
	if r.IIF != "" {
		b = attr(b, unix.FRA_IIFNAME, append([]byte(r.IIF), 0))
	}
	b = attr32(b, unix.FRA_PRIORITY, r.Priority)
	b = attr32(b, unix.FRA_TABLE, r.Table)
	return attr(b, unix.FRA_PROTOCOL, []byte{Protocol})
}

// Rules reads ours, and others' (as far as a Rule can tell them) that look something up in a table.
func (t *Tables) Rules() (ours, others []Rule, err error) {
	for _, v6 := range []bool{false, true} {
		request := append(begin(nil, unix.RTM_GETRULE, 0), family(v6), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
		err := t.read(request, func(kind uint16, body []byte) bool {
			r, protocol, ok := parseRule(kind, body)
			switch {
			case !ok:
			case protocol == Protocol:
				ours = append(ours, r)
			default:
				others = append(others, r)
			}
			return true
		})
		if err != nil {
			return nil, nil, fmt.Errorf("read rules: %w", err)
		}
	}
	return ours, others, nil
}

// parseRule reads an RTM_NEWRULE (struct fib_rule_hdr is laid out as struct rtmsg).
func parseRule(kind uint16, body []byte) (r Rule, protocol uint8, ok bool) {
	if kind != unix.RTM_NEWRULE || len(body) < unix.SizeofRtMsg || body[7] != ruleToTable {
		return r, 0, false
	}
	r.V6, r.Table = body[0] == unix.AF_INET6, uint32(body[4])
	attributes(body[unix.SizeofRtMsg:], func(kind uint16, data []byte) {
		switch kind {
		case unix.FRA_DST:
			r.To = netip.PrefixFrom(address(data), int(body[1]))
		case unix.FRA_IIFNAME:
			r.IIF = unix.ByteSliceToString(data)
		case unix.FRA_PRIORITY:
			r.Priority = u32(data)
		case unix.FRA_TABLE:
			r.Table = u32(data)
		case unix.FRA_PROTOCOL:
			if len(data) > 0 {
				protocol = data[0]
			}
		}
	})
	return r, protocol, true
}
