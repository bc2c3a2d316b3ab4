package inject

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/moby/ipvs"
	"golang.org/x/sys/unix"

	"tunneldirector/affinity"
)

// rated are n entries of one kind: of IPv4 where i%mod is not 0, else of IPv6.
func rated(kind byte, n, mod int, dest4, dest6 netip.AddrPort) []Conn {
	all := make([]Conn, n)
	for i := range all {
		c := Conn{VIP: at("198.51.100.1:500"), Dest: dest4, Method: affinity.DR, Timeout: time.Hour}
		a := netip.AddrFrom4([4]byte{100, 64 + 8*kind + byte(i>>16), byte(i >> 8), byte(i)})
		if i%mod == 0 {
			c.VIP, c.Dest = at("[2001:db8:1::1]:500"), dest6
			a = netip.AddrFrom16([16]byte{0x20, 1, 0x0d, 0xb8, 10: kind, 13: byte(i >> 16), 14: byte(i >> 8), 15: byte(i)})
		}
		c.Client = netip.AddrPortFrom(a, 0)
		all[i] = c
	}
	return all
}

// TestKernelRates measures, and counts what came of it: entries made, sent again, and re-pointed.
func TestKernelRates(t *testing.T) {
	h := inKernel(t)
	n := 100_000
	if testing.Short() {
		n = 5_000
	}
	a4, b4, a6, b6 := at("10.0.0.2:7"), at("10.0.0.3:7"), at("[fd00::2]:7"), at("[fd00::3]:7")
	s4 := addService(t, h, at("198.51.100.1:500"), a4, b4)
	s6 := addService(t, h, at("[2001:db8:1::1]:500"), a6, b6)
	l := openKernel(t, Options{})
	for kind, tt := range []struct {
		name   string
		mod    int
		v4, v6 int // how many there are to be of each, in all
	}{{"v4", n + 1, n - 1, 1}, {"v6", 1, n - 1, n + 1}, {"mixed", 2, n - 1 + n/2, n + 1 + n/2}} {
		measure(t, l, tt.name+" new", rated(byte(kind), n, tt.mod, a4, a6))
		measure(t, l, tt.name+" again", rated(byte(kind), n, tt.mod, a4, a6))
		measure(t, l, tt.name+" re-pointed", rated(byte(kind), n, tt.mod, b4, b6))
		counted(t, h, s4, map[string]int{"10.0.0.3": tt.v4})
		counted(t, h, s6, map[string]int{"fd00::3": tt.v6})
	}
	for end := time.Now().Add(LingerTime + 10*time.Second); os.Getenv("SOAK") != "" && lingering(t, h, s4)+lingering(t, h, s6) > 0; time.Sleep(time.Second) {
		if time.Now().After(end) {
			t.Fatalf("entries that lost their places are there after %v", LingerTime)
		}
	}
}

// TestKernelDestinations measures what a service's number of destinations costs an entry that is made (the kernel looks for its
// destination in a list, and finds last what was added first), and one that is there.
func TestKernelDestinations(t *testing.T) {
	h := inKernel(t)
	l := openKernel(t, Options{})
	service := addService(t, h, at("198.51.100.1:500"))
	const entries = 10_000
	there := 0
	for kind, n := range []int{1, 256, 1024, 4096} {
		for ; there < n; there++ {
			must(t, h.NewDestination(service, &ipvs.Destination{Address: []byte{10, 0, 0, 2}, Port: uint16(7 + there), ConnectionFlags: ipvs.ConnectionFlagDirectRoute, AddressFamily: unix.AF_INET}))
		}
		all := rated(byte(kind), entries+1, entries+1, at("10.0.0.2:7"), at("[fd00::2]:7"))[1:]
		measure(t, l, fmt.Sprintf("new, of %d destinations the last", n), all)
		measure(t, l, fmt.Sprintf("again, of %d destinations the last", n), all)
		dests, err := h.GetDestinations(service)
		must(t, err)
		if last := dests[len(dests)-1]; len(dests) != n || last.Port != 7 || last.ActiveConnections != (kind+1)*entries {
			t.Errorf("of %d destinations the last, port %d, has %d connections; want %d, port 7, %d", len(dests), last.Port, last.ActiveConnections, n, (kind+1)*entries)
		}
	}
}

func measure(t *testing.T, l *Link, what string, conns []Conn) {
	t.Helper()
	before, drops := time.Now(), l.drops
	must(t, l.Send(t.Context(), conns))
	took := time.Since(before)
	t.Logf("MEASURED inject %s %.0f entries/s, %d at once, %d messages dropped and sent again", what, float64(len(conns))/took.Seconds(), len(conns), l.drops-drops)
}

// counted holds the kernel's counters to the numbers that are wanted. Entries that lost their places may linger at other
// destinations.
func counted(t *testing.T, h *ipvs.Handle, s *ipvs.Service, want map[string]int) {
	t.Helper()
	dests, err := h.GetDestinations(s)
	must(t, err)
	for _, d := range dests {
		if n, ok := want[d.Address.String()]; ok && d.ActiveConnections != n {
			t.Errorf("destination %v has %d connections, want %d", d.Address, d.ActiveConnections, n)
		} else if !ok {
			t.Logf("lingering at %v: %d", d.Address, d.ActiveConnections)
		}
	}
}

// lingering is how many entries the first destination of a service has left.
func lingering(t *testing.T, h *ipvs.Handle, s *ipvs.Service) int {
	t.Helper()
	dests, err := h.GetDestinations(s)
	must(t, err)
	for _, d := range dests {
		if a, ok := netip.AddrFromSlice(d.Address); ok && (a == at("10.0.0.2:0").Addr() || a == at("[fd00::2]:0").Addr()) {
			return d.ActiveConnections
		}
	}
	t.Fatal("the destination is not there")
	return 0
}

// TestKernelDrops: what the real queue drops comes again, too.
func TestKernelDrops(t *testing.T) {
	h := inKernel(t)
	s := addService(t, h, at("198.51.100.1:500"), at("10.0.0.2:7"))
	l := openKernel(t, Options{})
	l.size = 200
	all := rated(0, 40_001, 40_001, at("10.0.0.2:7"), at("[fd00::2]:7"))[1:]
	must(t, l.Send(t.Context(), all))
	if l.drops == 0 {
		t.Error("nothing was dropped: the test tests nothing")
	}
	counted(t, h, s, map[string]int{"10.0.0.2": len(all)})
}

// TestKernelReadBack measures what reading the table back costs, by the size of the reads: the kernel gives a page at a time.
func TestKernelReadBack(t *testing.T) {
	inKernel(t)
	l := openKernel(t, Options{})
	counts := []int{1000, 5000}
	if os.Getenv("SOAK") != "" {
		counts = append(counts, 20_000, 100_000)
	}
	sent := 0
	for _, n := range counts {
		must(t, l.Send(t.Context(), rated(0, n, n+1, at("10.0.0.2:7"), at("[fd00::2]:7"))[sent:]))
		sent = n
		for _, size := range []int{4096, 65536, 1 << 20, 4 << 20} {
			before := time.Now()
			reads, lines := readBack(t, make([]byte, size))
			// While the kernel still takes apart the namespaces of other tests the places of entries change, and some are missed.
			for end := before.Add(time.Minute); lines != n+1 && time.Now().Before(end); {
				before = time.Now()
				reads, lines = readBack(t, make([]byte, size))
			}
			t.Logf("MEASURED conntab %d entries, reads of %d bytes: %d reads, %v", n, size, reads, time.Since(before).Round(time.Millisecond))
			if lines != n+1 {
				t.Errorf("%d lines, want a title and %d", lines, n)
			}
			if n > 5000 {
				break // it takes minutes, and is the same for all
			}
		}
	}
}

func readBack(t *testing.T, b []byte) (reads, lines int) {
	t.Helper()
	f, err := os.Open("/proc/thread-self/net/ip_vs_conn_sync")
	must(t, err)
	defer f.Close()
	for {
		n, err := f.Read(b)
		if errors.Is(err, io.EOF) {
			return reads, lines
		}
		must(t, err)
		reads++
		lines += bytes.Count(b[:n], []byte("\n"))
	}
}
