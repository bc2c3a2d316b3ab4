package api

import (
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
	"net/http"
	"net/netip"
	"strings"

	"tunneldirector/affinity"
)

type listInput struct {
	Service    string   `query:"service"`
	RealServer string   `query:"real_server" doc:"whose primary it is"`
	Endpoint   string   `query:"endpoint" doc:"an address that the tunnel claims, at any port"`
	Inside     string   `query:"inside" doc:"an address inside one of the tunnel's subnets"`
	State      string   `query:"state" enum:"down,coming,up,unsaid" doc:"as the NMS said"`
	Label      []string `query:"label,explode" doc:"key=value, or key alone; may be repeated"`
	Owner      string   `query:"owner"`
	Group      string   `query:"group"`
	Tenant     string   `query:"tenant" doc:"default: the default tenant"`
	Placed     string   `query:"placed" enum:"yes,no,contested"`
	Learned    string   `query:"learned" enum:"yes,no" doc:"yes: only those that nobody announced and agents saw"`
	Limit      int      `query:"limit" default:"100" minimum:"1" maximum:"10000"`
	Cursor     string   `query:"cursor" doc:"next of the page before"`
}

// A filter is what a listing asks for. Zero values let everything through.
type filter struct {
	in       *listInput
	after    string
	endpoint netip.Addr
	inside   netip.Addr
	tenant   *string
	labels   map[string]*string // nil value: the key alone
}

func (in *listInput) filter(t *affinity.Table) (*filter, error) {
	out := &filter{in: in}
	var f faults
	var err error
	if in.Endpoint != "" {
		if out.endpoint, err = netip.ParseAddr(in.Endpoint); err != nil {
			f.add("endpoint", in.Endpoint, "is not an address", "an address without port, like 203.0.113.5")
		}
	}
	if in.Inside != "" {
		if out.inside, err = netip.ParseAddr(in.Inside); err != nil {
			f.add("inside", in.Inside, "is not an address", "an address behind a tunnel, like 100.64.40.33")
		}
	}
	if in.Tenant != "" {
		name := tenantName(in.Tenant)
		out.tenant = &name
	}
	in.names(t, &f)
	for _, l := range in.Label {
		key, value, hasValue := strings.Cut(l, "=")
		if key == "" {
			f.add("label", l, "has no key", "key=value, or key alone")
		}
		if out.labels == nil {
			out.labels = map[string]*string{}
		}
		out.labels[key] = nil
		if hasValue {
			out.labels[key] = &value
		}
	}
	if p := f.problem("the query"); p != nil {
		return nil, p
	}
	if in.Cursor != "" {
		var ok bool
		if out.after, ok = cursorID(in.Cursor); !ok {
			return nil, problem(http.StatusBadRequest, kindMalformed, "the query is refused",
				FieldError{"cursor", clip(in.Cursor), "is not a cursor", "what was called next in the page before"})
		}
	}
	return out, nil
}

// A cursor is the last id of a page, with a mark and a sum by which it is known again.
const cursorMark = "after"

// CursorAfter makes the cursor of the page that begins after an id, whether it exists or not.
func CursorAfter(id string) string {
	sum := crc32.ChecksumIEEE([]byte(cursorMark + id))
	return base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint32([]byte(cursorMark+id), sum))
}

func cursorID(cursor string) (id string, ok bool) {
	data, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil || len(data) < 4 {
		return "", false
	}
	id, ok = strings.CutPrefix(string(data[:len(data)-4]), cursorMark)
	return id, ok && CursorAfter(id) == cursor
}

func (f *filter) matches(t *affinity.Table, tun *affinity.Tunnel) bool {
	in := f.in
	switch {
	case in.Service != "" && tun.Service != in.Service,
		in.Owner != "" && tun.Owner != in.Owner,
		in.Group != "" && tun.Group != strings.TrimPrefix(in.Group, "@"),
		f.tenant != nil && tun.Tenant != *f.tenant,
		in.Learned != "" && tun.Learned() != (in.Learned == "yes"),
		in.State == "unsaid" && tun.State != affinity.StateUnsaid,
		in.State != "" && in.State != "unsaid" && tun.State.String() != in.State,
		f.endpoint.IsValid() && !claims(tun, f.endpoint),
		f.inside.IsValid() && !contains(tun, f.inside):
		return false
	}
	for k, want := range f.labels {
		have, ok := tun.Labels[k]
		if !ok || want != nil && have != *want {
			return false
		}
	}
	return f.matchesPlace(t, tun)
}

func (f *filter) matchesPlace(t *affinity.Table, tun *affinity.Tunnel) bool {
	if f.in.RealServer == "" && f.in.Placed == "" {
		return true
	}
	pin, ok := t.PinOf(tun)
	placed := ok && pin.Primary != 0
	if f.in.RealServer != "" && (!placed || realServerName(t, pin.Primary) != f.in.RealServer) {
		return false
	}
	switch f.in.Placed {
	case "yes":
		return placed
	case "no":
		return !placed
	case "contested":
		return len(t.Contested(tun)) > 0
	}
	return true
}

func claims(tun *affinity.Tunnel, a netip.Addr) bool {
	for _, ep := range tun.Claimed() {
		if ep.Addr() == a {
			return true
		}
	}
	return false
}

func contains(tun *affinity.Tunnel, a netip.Addr) bool {
	for _, p := range tun.Subnets {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
