package inject

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tunneldirector/affinity"
)

func at(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

var (
	exact4 = Conn{Client: at("203.0.113.5:41641"), VIP: at("198.51.100.1:4500"), Dest: at("10.0.0.2:7"), Method: affinity.DR, Timeout: time.Hour}
	wild4  = Conn{Client: at("203.0.113.5:0"), VIP: at("198.51.100.1:500"), Dest: at("10.0.0.3:65535"), Method: affinity.IPIP, Timeout: time.Second}
	wild6  = Conn{Client: at("[2001:db8::5]:0"), VIP: at("[2001:db8:1::1]:500"), Dest: at("[fd00::2]:1"), Method: affinity.Masq, Timeout: 65536 * time.Second}
)

// compare ignores how netip holds an address.
var compare = cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })

// TestBytes holds messages against bytes written from the structs of ip_vs_sync.c by hand.
func TestBytes(t *testing.T) {
	for _, tt := range []struct {
		name  string
		conns []Conn
		want  []string
	}{
		{"exact v4", []Conn{exact4}, []string{
			"00 07 002c 01 01 0000", // header: size 44, one entry
			"00 11 0024 00000003 0000 a2a9 1194 0007 00000000 00000e10 cb007105 c6336401 0a000002",
		}},
		{"wildcard v4 by tunnel, wildcard v6 by masq", []Conn{wild4, wild6}, []string{
			"00 07 0074 02 01 0000",
			"00 11 0024 00000802 0000 0000 01f4 ffff 00000000 00000001 cb007105 c6336401 0a000003",
			"01 11 0048 00000800 0000 0000 01f4 0001 00000000 00010000",
			"20010db8000000000000000000000005 20010db8000100000000000000000001 fd000000000000000000000000000002",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := strings.ReplaceAll(strings.Join(tt.want, ""), " ", "")
			if got := fmt.Sprintf("%x", appendMessage(nil, 7, tt.conns)); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

func TestMarker(t *testing.T) {
	const want = "0007001000010000" + "0102030405060708"
	if got := fmt.Sprintf("%x", appendMarker(nil, 7, 0x0102030405060708)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestNext(t *testing.T) {
	many := make([]Conn, 300)
	for i := range many {
		many[i] = exact4
	}
	for _, tt := range []struct {
		name  string
		conns []Conn
		size  int
		want  int
	}{
		{"none", nil, 1500, 0},
		{"all fit", []Conn{exact4, wild6}, 8 + 36 + 72, 2},
		{"one byte short", []Conn{exact4, wild6}, 8 + 36 + 71, 1},
		{"at least one", []Conn{wild6, wild6}, 10, 1},
		{"the count is a byte", many, 65535, 255},
		{"by size", many, 8 + 36*40 + 35, 40},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := next(tt.conns, tt.size); got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
		})
	}
}

func TestCheck(t *testing.T) {
	with := func(change func(*Conn)) Conn {
		c := exact4
		change(&c)
		return c
	}
	for _, tt := range []struct {
		name, want string // "" is right
		conn       Conn
	}{
		{"exact", "", exact4},
		{"wildcard", "", wild6},
		{"no client", "missing", with(func(c *Conn) { c.Client = netip.AddrPort{} })},
		{"no destination", "missing", with(func(c *Conn) { c.Dest = netip.AddrPort{} })},
		{"two families", "one family", with(func(c *Conn) { c.Dest = wild6.Dest })},
		{"IPv4 in IPv6", "one family", with(func(c *Conn) { c.Client = at("[::ffff:203.0.113.5]:1") })},
		{"no timeout", "whole seconds", with(func(c *Conn) { c.Timeout = 0 })},
		{"half seconds", "whole seconds", with(func(c *Conn) { c.Timeout = 1500 * time.Millisecond })},
		{"for ever", "whole seconds", with(func(c *Conn) { c.Timeout = maxTimeout + time.Second })},
		{"method", "method 3", with(func(c *Conn) { c.Method = affinity.Masq + 1 })},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.conn.Check()
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q in it", err, tt.want)
			}
		})
	}
}

// FuzzMessage writes conns and reads them as the kernel does.
func FuzzMessage(f *testing.F) {
	f.Add([]byte("\x00aaaabbbbcccc1234567"), uint8(1))
	f.Add([]byte(strings.Repeat("\x07aaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbcccccccccccccccc\x00\x0034567890", 3)), uint8(255))
	f.Fuzz(func(t *testing.T, in []byte, id uint8) {
		var conns []Conn
		for len(conns) < maxConns && len(in) >= 64 {
			conns, in = append(conns, connFrom(in)), in[64:]
		}
		b := appendMessage([]byte("before"), id, conns)
		got, err := decode(b[len("before"):], id)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(conns, got, compare); diff != "" {
			t.Error(diff)
		}
	})
}

// connFrom makes a right Conn of 64 bytes.
func connFrom(b []byte) Conn {
	addr := func(i int) netip.AddrPort {
		port := binary.BigEndian.Uint16(b[1+2*i:])
		from := b[8+16*i:]
		if b[0]&4 == 0 {
			return netip.AddrPortFrom(netip.AddrFrom4([4]byte(from)), port)
		}
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(from)), port)
	}
	return Conn{
		Client: addr(0), VIP: addr(1), Dest: addr(2), Method: affinity.Method(b[0]%4) % 3,
		Timeout: time.Duration(1+binary.BigEndian.Uint16(b[60:])) * time.Second,
	}
}

// decode is what ip_vs_process_message and ip_vs_proc_sync_conn do with a datagram, strict where they are lax.
func decode(b []byte, id uint8) (conns []Conn, err error) {
	if len(b) < 8 || b[0] != 0 || b[1] != id || int(binary.BigEndian.Uint16(b[2:])) != len(b) || b[5] != 1 || b[6] != 0 || b[7] != 0 {
		return nil, fmt.Errorf("header % x of %d bytes", b[:min(8, len(b))], len(b))
	}
	rest := b[8:]
	for range b[4] {
		size, addr := 36, 4
		if len(rest) > 0 && rest[0] == 1 {
			size, addr = 72, 16
		}
		if len(rest) < size || rest[0] > 1 || rest[1] != 17 || int(binary.BigEndian.Uint16(rest[2:])) != size {
			return nil, fmt.Errorf("entry % x", rest)
		}
		flags, state := binary.BigEndian.Uint32(rest[4:]), binary.BigEndian.Uint16(rest[8:])
		endpoint := func(i int) netip.AddrPort {
			a, _ := netip.AddrFromSlice(rest[24+i*addr : 24+(i+1)*addr])
			return netip.AddrPortFrom(a, binary.BigEndian.Uint16(rest[10+2*i:]))
		}
		c := Conn{Client: endpoint(0), VIP: endpoint(1), Dest: endpoint(2), Timeout: time.Duration(binary.BigEndian.Uint32(rest[20:])) * time.Second}
		c.Method = map[uint32]affinity.Method{0: affinity.Masq, 2: affinity.IPIP, 3: affinity.DR}[flags&7]
		if (flags&^7 == 0x800) != (c.Client.Port() == 0) || flags&^0x807 != 0 || state != 0 {
			return nil, fmt.Errorf("flags %#x, state %d, port %d", flags, state, c.Client.Port())
		}
		conns, rest = append(conns, c), rest[size:]
	}
	if len(rest) != 0 {
		return nil, fmt.Errorf("%d bytes more", len(rest))
	}
	return conns, nil
}
