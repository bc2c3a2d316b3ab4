package gate

import (
	"errors"
	"net"
	"os"
	"testing"

	"github.com/moby/ipvs"
	"golang.org/x/sys/unix"
)

// needIPVS skips where the kernel has none.
func needIPVS(t *testing.T) *ipvs.Handle {
	t.Helper()
	h, err := ipvs.New("") // loads the module, if there is one
	must(t, err)
	t.Cleanup(h.Close)
	if _, err := os.Stat("/proc/net/ip_vs"); err != nil {
		t.Skipf("the kernel has no IPVS: %v", err)
	}
	return h
}

// from500 is IKE: UDP to port 500 from port 500.
func from500(src, dst string) []byte {
	p := udp(src, dst, 500)
	copy(p[len(p)-12:], []byte{1, 244})
	return p
}

// serve makes a virtual service; without a real server it refuses everybody.
func serve(t testing.TB, h *ipvs.Handle, vip string, port uint16, rs string) {
	t.Helper()
	s := &ipvs.Service{Address: net.ParseIP(vip), Protocol: protoUDP, Port: port, SchedName: "rr", AddressFamily: unix.AF_INET, Netmask: 0xffffffff}
	if addr(vip).Is6() {
		s.AddressFamily, s.Netmask = unix.AF_INET6, 128
	}
	must(t, h.NewService(s))
	if rs != "" {
		must(t, h.NewDestination(s, &ipvs.Destination{Address: net.ParseIP(rs), Port: port, Weight: 1, ConnectionFlags: ipvs.ConnectionFlagDirectRoute}))
	}
}

// arrived counts the packets of a protocol that come to the real server while f runs.
func (l *lab) arrived(t *testing.T, proto byte, f func()) (n int) {
	t.Helper()
	l.rs.Do(func() {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM, int(swap(unix.ETH_P_ALL)))
		must(t, err)
		defer unix.Close(fd)
		must(t, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 300_000}))
		l.dir.Do(f)
		for b := make([]byte, 2000); ; {
			if _, _, err := unix.Recvfrom(fd, b, 0); err != nil {
				if !errors.Is(err, unix.EAGAIN) {
					t.Fatal(err)
				}
				return
			}
			if b[0]>>4 == 4 && b[9] == proto || b[0]>>4 == 6 && b[6] == proto {
				n++
			}
		}
	})
	return n
}

// The gate with IPVS itself in the middle. It learns of UDP from port 500, and ESP and AH follow.
func TestAroundIPVS(t *testing.T) {
	l := newLab(t)
	h := needIPVS(t)
	_, err := l.gate.Set(t.Context(), wanted)
	must(t, err)
	serve(t, h, vip4, 500, "10.2.0.2")
	serve(t, h, vip6, 500, "2001:db8:b::2")
	serve(t, h, vip4, 4500, "")
	ahOver := func(proto byte) []byte { p := ah(known6, vip6); p[40] = proto; return p }
	for _, tt := range []struct {
		name   string
		proto  byte
		packet []byte
		want   int
		drops  string
	}{
		{"unknown ESP", protoESP, esp(known4, vip4), 0, counterUnknown},
		{"UDP", protoUDP, from500(known4, vip4), 1, ""},
		{"ESP", protoESP, esp(known4, vip4), 1, ""},
		{"AH", protoAH, ah(known4, vip4), 1, ""},
		{"UDP of no service", protoUDP, udp(known4, vip4, 501), 0, counterService},
		{"a lie", protoUDP, from500(away4, vip4), 0, counterSource},
		{"IPv6: UDP", protoUDP, from500(known6, vip6), 1, ""},
		{"IPv6: ESP", protoESP, esp(known6, vip6), 1, ""},
		{"unknown UDP", protoUDP, udp(known4, vip4, 4500), 0, counterUnknown},
		// IPVS does not stop at AH in IPv6 (ip_vs_fill_iph_skb_off), and takes what is behind for the packet.
		{"IPv6: AH over IPv6", protoAH, ahOver(41), 0, counterUnknown},
		{"IPv6: AH over ESP", protoAH, ahOver(protoESP), 1, ""},
	} {
		var drops map[string]uint64
		got := l.arrived(t, tt.proto, func() {
			before := l.drops(t)
			send(l.site, "eth0", l.dir, "tun0", tt.packet)
			drops = l.drops(t)
			for name, n := range before {
				if drops[name] -= n; drops[name] == 0 {
					delete(drops, name)
				}
			}
		})
		if got != tt.want || (tt.drops != "") != (drops[tt.drops] == 1) {
			t.Errorf("%s: %d arrived, dropped %v; want %d and %q", tt.name, got, drops, tt.want, tt.drops)
		}
	}
	if found, err := Check(os.DirFS("/"), 1); err != nil {
		t.Errorf("found %v, error %v", found, err)
	}
}

func (l *lab) drops(t *testing.T) map[string]uint64 {
	c, err := l.gate.table.Counters()
	must(t, err)
	out := map[string]uint64{}
	for name, n := range c {
		if n.Packets > 0 {
			out[name] = n.Packets
		}
	}
	return out
}
