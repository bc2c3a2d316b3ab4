package load

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// message is a struct inet_diag_msg as the kernel builds it.
func message(local netip.AddrPort, attributes ...[]byte) []byte {
	b := make([]byte, diagSize)
	b[0] = familyIPv4
	if local.Addr().Is6() {
		b[0] = familyIPv6
	}
	binary.BigEndian.PutUint16(b[4:], local.Port())
	copy(b[8:], local.Addr().AsSlice())
	binary.NativeEndian.PutUint32(b[44:], 7) // cookie
	binary.NativeEndian.PutUint32(b[48:], 1)
	binary.NativeEndian.PutUint32(b[56:], 4096) // queue
	binary.NativeEndian.PutUint32(b[68:], 815)  // inode
	for _, a := range attributes {
		b = append(b, a...)
	}
	return b
}

func attribute(kind uint16, values ...uint32) []byte {
	b := binary.NativeEndian.AppendUint16(nil, uint16(4+4*len(values)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	for _, v := range values {
		b = binary.NativeEndian.AppendUint32(b, v)
	}
	return b
}

var memory = attribute(diagMemory, 5120, 212992, 0, 212992, 0, 0, 0, 0, 42)

func TestParseSocket(t *testing.T) {
	for _, local := range []string{"192.0.2.1:4500", "[2001:db8::1]:500"} {
		at := netip.MustParseAddrPort(local)
		got, err := parseSocket(message(at, attribute(15, 1), memory))
		if err != nil {
			t.Fatal(err)
		}
		want := socket{cookie: 1<<32 | 7, inode: 815, local: at, queue: 4096, buffer: 212992, drops: 42}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(socket{}), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
			t.Error(diff)
		}
	}
	at := netip.MustParseAddrPort("192.0.2.1:4500")
	family := message(at, memory)
	family[0] = 99
	for name, b := range map[string][]byte{
		"empty": nil, "short": message(at)[:71], "no memory": message(at), "old kernel without drops": message(at, attribute(diagMemory, 1, 2, 3)),
		"family": family, "attribute too long": message(at, memory[:20]), "attribute of no size": message(at, []byte{0, 0, 7, 0}),
	} {
		if got, err := parseSocket(b); err == nil {
			t.Errorf("%s: %+v, want an error", name, got)
		}
	}
}

func FuzzParseSocket(f *testing.F) {
	f.Add(message(netip.MustParseAddrPort("192.0.2.1:4500"), attribute(15, 1), memory))
	f.Add(message(netip.MustParseAddrPort("[2001:db8::1]:500"), memory))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := parseSocket(b); err == nil && s.buffer == 0 {
			t.Fatal("a socket without a buffer")
		}
	})
}

func TestReceivers(t *testing.T) {
	locals := []string{"192.0.2.1:500", "0.0.0.0:500", "[::]:500", "[2001:db8::1]:500", "192.0.2.1:4500", "[::]:655", "[::ffff:192.0.2.1]:656"}
	var sockets []socket
	for _, l := range locals {
		sockets = append(sockets, socket{local: netip.MustParseAddrPort(l)})
	}
	for _, tt := range []struct {
		at   string
		want []string
	}{
		{"192.0.2.1:500", []string{"192.0.2.1:500"}},
		{"192.0.2.2:500", []string{"0.0.0.0:500", "[::]:500"}},
		{"[2001:db8::1]:500", []string{"[2001:db8::1]:500"}},
		{"[2001:db8::2]:500", []string{"[::]:500"}},
		{"0.0.0.0:500", []string{"0.0.0.0:500"}},
		{"0.0.0.0:655", []string{"[::]:655"}},
		{"0.0.0.0:4500", []string{"192.0.2.1:4500"}},
		{"192.0.2.9:655", []string{"[::]:655"}},
		{"192.0.2.1:656", []string{"[::ffff:192.0.2.1]:656"}},
		{"192.0.2.9:4500", nil},
		{"192.0.2.1:1", nil},
	} {
		var got []string
		for _, s := range receivers(sockets, netip.MustParseAddrPort(tt.at)) {
			got = append(got, s.local.String())
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: %s", tt.at, diff)
		}
	}
}
