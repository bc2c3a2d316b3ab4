package conntab

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func at(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

var compare = cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })

const header = "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Origin Expires\n"

func read(text string) (all []Entry, err error) {
	parse(strings.NewReader(text), func(e Entry, bad error) bool {
		if err = bad; bad == nil {
			all = append(all, e)
		}
		return true
	})
	return all, err
}

func TestRead(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       []Entry
		bad        string
	}{
		{name: "empty", text: header},
		{
			name: "IPv4, as Linux 6.1 writes it",
			text: header +
				"UDP CB007105 0000 C6336401 01F4 0A000002 0007 UDP         SYNC      3599\n" +
				"TCP CB007106 A2A9 C6336401 0050 0A000003 0050 ESTABLISHED LOCAL      899\n",
			want: []Entry{
				{17, at("203.0.113.5:0"), at("198.51.100.1:500"), at("10.0.0.2:7"), "UDP", true, 3599 * time.Second},
				{6, at("203.0.113.6:41641"), at("198.51.100.1:80"), at("10.0.0.3:80"), "ESTABLISHED", false, 899 * time.Second},
			},
		},
		{
			name: "IPv6, and IPv6 to a real server of IPv4",
			text: "UDP 2001:0db8:0000:0000:0000:0000:0000:0005 1194 2001:0db8:0001:0000:0000:0000:0000:0001 1194 fd00:0000:0000:0000:0000:0000:0000:0002 1194 UDP         LOCAL      300\n" +
				"UDP 2001:0db8:0000:0000:0000:0000:0000:0005 1194 2001:0db8:0001:0000:0000:0000:0000:0001 1194 0A000002 1194 UDP         LOCAL      300\n",
			want: []Entry{
				{17, at("[2001:db8::5]:4500"), at("[2001:db8:1::1]:4500"), at("[fd00::2]:4500"), "UDP", false, 300 * time.Second},
				{17, at("[2001:db8::5]:4500"), at("[2001:db8:1::1]:4500"), at("10.0.0.2:4500"), "UDP", false, 300 * time.Second},
			},
		},
		{
			name: "templates, of a service and of a firewall mark",
			text: "UDP CB007105 0000 C6336401 01F4 0A000002 01F4 NONE        LOCAL       59\n" +
				"IP  CB007105 0000 00000001 0000 0A000002 0000 ASSURED     SYNC        59\n",
			want: []Entry{
				{17, at("203.0.113.5:0"), at("198.51.100.1:500"), at("10.0.0.2:500"), "NONE", false, 59 * time.Second},
				{0, at("203.0.113.5:0"), at("0.0.0.1:0"), at("10.0.0.2:0"), "ASSURED", true, 59 * time.Second},
			},
		},
		{
			name: "other protocols, and one whose time has come",
			text: "IP_50 CB007105 0000 C6336401 01F4 0A000002 01F4 NONE        LOCAL 4294967295\n" +
				"ICMPv6 CB007105 0000 C6336401 01F4 0A000002 01F4 NONE        LOCAL 18446744073709551\n",
			want: []Entry{
				{50, at("203.0.113.5:0"), at("198.51.100.1:500"), at("10.0.0.2:500"), "NONE", false, 0},
				{58, at("203.0.113.5:0"), at("198.51.100.1:500"), at("10.0.0.2:500"), "NONE", false, 0},
			},
		},
		{name: "the table without origins", text: "UDP CB007105 0000 C6336401 01F4 0A000002 0007 UDP            3599\n", bad: "9 fields"},
		{name: "protocol", text: "XYZ CB007105 0000 C6336401 01F4 0A000002 0007 UDP SYNC 1\n", bad: `"XYZ" is not known`},
		{name: "address", text: "UDP CB00710G 0000 C6336401 01F4 0A000002 0007 UDP SYNC 1\n", bad: "invalid byte"},
		{name: "zone", text: "UDP fe80::1%eth0 0000 C6336401 01F4 0A000002 0007 UDP SYNC 1\n", bad: "zone"},
		{name: "port", text: "UDP CB007105 10000 C6336401 01F4 0A000002 0007 UDP SYNC 1\n", bad: "out of range"},
		{name: "origin", text: "UDP CB007105 0000 C6336401 01F4 0A000002 0007 UDP MOON 1\n", bad: "MOON"},
		{name: "expiry", text: "UDP CB007105 0000 C6336401 01F4 0A000002 0007 UDP SYNC -1\n", bad: "invalid syntax"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := read(tt.text)
			if (err == nil) != (tt.bad == "") || err != nil && !strings.Contains(err.Error(), tt.bad) {
				t.Fatalf("error %v, want %q in it", err, tt.bad)
			}
			if diff := cmp.Diff(tt.want, got, compare); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestReadStops(t *testing.T) {
	line := "UDP CB007105 0000 C6336401 01F4 0A000002 0007 UDP SYNC 1\n"
	seen := 0
	parse(strings.NewReader(line+line), func(Entry, error) bool { seen++; return false })
	if seen != 1 {
		t.Errorf("saw %d entries after the first was enough", seen)
	}
}

// TestReadFails: an error of the file is an error of the iteration, after what came before it.
func TestReadFails(t *testing.T) {
	line := "UDP CB007105 0000 C6336401 01F4 0A000002 0007 UDP SYNC 1\n"
	broken := errors.New("broken disk")
	entries, last := 0, error(nil)
	parse(io.MultiReader(strings.NewReader(line), iotest.ErrReader(broken)), func(_ Entry, err error) bool {
		if last = err; err == nil {
			entries++
		}
		return true
	})
	if entries != 1 || !errors.Is(last, broken) {
		t.Errorf("%d entries, then %v; want 1, then %v", entries, last, broken)
	}
}

func TestTemplate(t *testing.T) {
	for _, tt := range []struct {
		state string
		port  uint16
		want  bool
	}{{"UDP", 0, false}, {"NONE", 0, true}, {"ASSURED", 0, true}, {"NONE", 1, false}, {"ESTABLISHED", 0, false}} {
		e := Entry{State: tt.state, Client: netip.AddrPortFrom(netip.IPv4Unspecified(), tt.port)}
		if got := e.Template(); got != tt.want {
			t.Errorf("%s, port %d: %t, want %t", tt.state, tt.port, got, tt.want)
		}
	}
}

// FuzzLine: what is read can be written as the kernel does, and read again.
func FuzzLine(f *testing.F) {
	f.Add("UDP CB007105 0000 C6336401 01F4 0A000002 0007 UDP         SYNC      3599")
	f.Add("TCP 2001:0db8:0000:0000:0000:0000:0000:0005 1194 2001:0db8:0001:0000:0000:0000:0000:0001 1194 0A000002 1194 ESTABLISHED LOCAL      300")
	f.Add("IP_50 CB007105 0000 C6336401 01F4 0A000002 01F4 NONE        LOCAL 4294967295")
	f.Fuzz(func(t *testing.T, line string) {
		e, err := parseLine([]byte(line))
		if err != nil {
			return
		}
		again, err := parseLine([]byte(write(e)))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(e, again, compare); diff != "" {
			t.Errorf("%q: %s", line, diff)
		}
	})
}

func write(e Entry) string {
	protocol := map[uint8]string{17: "UDP", 6: "TCP", 132: "SCTP", 0: "IP", 1: "ICMP", 58: "ICMPv6"}[e.Protocol]
	if protocol == "" {
		protocol = fmt.Sprintf("IP_%d", e.Protocol)
	}
	addr := func(a netip.AddrPort) string {
		if a.Addr().Is4() {
			return fmt.Sprintf("%X %04X", a.Addr().As4(), a.Port())
		}
		return fmt.Sprintf("%s %04X", a.Addr().StringExpanded(), a.Port())
	}
	origin := "LOCAL"
	if e.Synced {
		origin = "SYNC"
	}
	return fmt.Sprintf("%-3s %s %s %s %-11s %-6s %7d", protocol, addr(e.Client), addr(e.VIP), addr(e.Dest), e.State, origin, int(e.Expires/time.Second))
}
