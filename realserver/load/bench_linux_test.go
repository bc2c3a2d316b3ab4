package load

import (
	"net"
	"net/netip"

	"testing"

	"tunneldirector/realserver/space"
	"tunneldirector/realserver/terminator"
)

// BenchmarkSample is a second of an agent: a terminator of 100 threads and two ports in a namespace of 1000 sockets, with a TUN device.
// A thousandth of a second is 0.1 % of a core.
func BenchmarkSample(b *testing.B) {
	s := newSpace(b)
	pid := start(b, s, "threads")
	crowd(b, s)
	work := terminator.Work{Processes: []int{pid}, Devices: []string{"lo"},
		Sockets: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:20000"), netip.MustParseAddrPort("127.0.0.1:20001")}}
	for name, work := range map[string]terminator.Work{
		"all": work, "threads": {Processes: work.Processes}, "sockets": {Sockets: work.Sockets}, "device": {Devices: work.Devices}, "nothing": {},
	} {
		b.Run(name, func(b *testing.B) {
			m := New(Options{Space: s})
			b.ReportAllocs()
			for b.Loop() {
				if _, err := m.Sample(b.Context(), work, 10_000); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	// What it would be to read the sockets as text.
	b.Run("proc net udp", func(b *testing.B) {
		var f files
		for b.Loop() {
			in(b, s, func() error {
				for _, path := range []string{"/proc/thread-self/net/udp", "/proc/thread-self/net/udp6"} {
					if _, err := f.read(path); err != nil {
						return err
					}
				}
				return nil
			})
		}
	})
}

// crowd opens 1000 sockets in a namespace.
func crowd(b *testing.B, s space.Space) {
	for i := range 1000 {
		err := s.Do(func() error {
			c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 20000 + i})
			if err == nil {
				b.Cleanup(func() { c.Close() })
			}
			return err
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	stat, one := recorded(b, "stat"), recorded(b, "task")
	b.Run("task", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := parseTask(one); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("cores", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := parseCores(stat); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("read own task", func(b *testing.B) {
		var f files
		b.ReportAllocs()
		for b.Loop() {
			if _, err := f.task("/proc/self"); err != nil {
				b.Fatal(err)
			}
		}
	})

}
