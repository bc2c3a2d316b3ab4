package strongswan

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"tunneldirector/realserver/terminator"
	"tunneldirector/realserver/terminator/terminatortest"
)

// TestWatch: events poke, and while there is none charon is not asked for its list again.
func TestWatch(t *testing.T) {
	f := startFake(t)
	f.sas = []fakeSA{known("sites", "1", "site-1", "203.0.113.11 500", installed("net", "c0000001", false, "100.64.1.0/28"))}
	d := f.driver(Options{Refresh: time.Hour})
	changed := make(chan struct{}, 1)
	ended := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { ended <- d.Watch(ctx, changed) }()
	lists := func(want int) {
		t.Helper()
		if _, err := d.Tunnels(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		if got := f.asked["list-sas"]; got != want {
			t.Errorf("charon has listed %d times, want %d", got, want)
		}
	}
	<-changed
	lists(1)
	lists(1)
	f.emit("ike-updown")
	<-changed
	lists(2)
	lists(2)
	f.stop()
	if err := <-ended; !errors.Is(err, terminator.ErrGone) {
		t.Errorf("charon is gone, and Watch says %v", err)
	}
	f.listen()
	lists(3) // nobody listens: each is a new one
	lists(4)
	go func() { ended <- d.Watch(ctx, changed) }()
	<-changed
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("cancelled, and Watch says %v", err)
	}
}

func TestWork(t *testing.T) {
	w, err := startFake(t).driver(Options{}).Work(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(w.Processes, []int{os.Getpid()}) || !slices.Contains(w.Sockets, netip.MustParseAddrPort("0.0.0.0:4500")) || !slices.Equal(w.Devices, []string{"ipsec0"}) {
		t.Errorf("it works with %+v", w)
	}
}

// BenchmarkTunnels reads lists of 10,000 SAs of a charon that has them ready.
func BenchmarkTunnels(b *testing.B) {
	var list []byte
	for i := range 10_000 {
		a := netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)})
		s := known("sites", fmt.Sprint(i+1), fmt.Sprintf("C=CH, O=example, CN=site-%05d.example", i), a.String()+" 4500",
			installed("net", fmt.Sprintf("%08x", 0xc0000000+i), true, fmt.Sprintf("10.%d.%d.0/28", i>>8, i&255)))
		for _, key := range []string{"initiator-spi", "responder-spi", "encr-alg", "encr-keysize", "prf-alg", "dh-group", "rekey-time", "nat-remote", "nat-any"} {
			s.body = s.body.value(key, "0123456789abcdef")
		}
		list = append(list, packet(event, "list-sa", message(nil).section(s.connection, s.body))...)
	}
	list = append(list, packet(cmdResponse, "", nil)...)
	s := terminatortest.Listen(b, func(c net.Conn) {
		for _, answer := range [][]byte{packet(eventConfirm, "", nil), list} {
			if _, _, _, err := readPacket(c); err == nil {
				_, _ = c.Write(answer)
			}
		}
	})
	d, err := New(Options{Socket: s.Socket})
	if err != nil {
		b.Fatal(err)
	}
	d.tidy = true // this charon knows no other command
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	terminatortest.Bench(b, d)
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/(1<<20), "MiB-kept")
	b.ReportMetric(float64(len(list))/(1<<20), "MiB-list")
	runtime.KeepAlive(d)
}
