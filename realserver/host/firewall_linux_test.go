package host

import (
	"slices"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// firewalls are rules for a chain of hook input with policy accept, if they do not say otherwise.
var firewalls = []struct {
	name, rules string
	want        []string
}{
	{"nothing", "", nil},
	{"harmless", `chain in { type filter hook input priority 0; policy accept; ct state established,related accept; tcp dport 22 accept; ip saddr 203.0.113.0/24 drop
		iifname eth1 drop; udp dport { 53, 67-68, 600-4000 } drop; ip6 daddr 2001:db8::7 drop; meta l4proto vmap { icmp : drop, tcp : drop }; counter; }`, nil},
	{"policy alone", `chain in { type filter hook input priority 0; policy drop; }`, []string{"firewall-drops"}},
	{"policy, all let in before", `chain in { type filter hook input priority 0; policy drop; ct state vmap { established : accept, related : accept }
		ip protocol esp accept; ip6 nexthdr esp accept; udp dport { 500, 4500, 7000-8000 } accept; }`, nil},
	{"policy, probes not let in", `chain in { type filter hook input priority 0; policy drop; meta l4proto esp accept; udp dport { 500, 4500 } accept; }`, []string{"firewall-drops"}},
	{"policy, let in by the interface", `chain in { type filter hook input priority 0; policy drop; iifname "eth*" accept; }`, nil},
	{"policy, let in by something unknown", `chain in { type filter hook input priority 0; policy drop; meta mark 7 accept; }`, []string{"firewall-may-drop"}},
	{"policy, let in by a kind of match that cannot be read", `chain in { type filter hook input priority 0; policy drop; iifname eth0 socket transparent 1 accept; }`,
		[]string{"firewall-may-drop"}},
	{"policy, let in through chains", `chain vips { ip daddr 192.0.2.100 accept; ip6 daddr 2001:db8::100 accept; }
		chain in { type filter hook input priority 0; policy drop; iifname vmap { lo : accept, eth0 : jump vips }; }`, nil},
	{"a chain that returns", `chain vips { ip daddr 192.0.2.100 return; accept; }
		chain in { type filter hook input priority 0; policy drop; jump vips; ct state new counter; }`, []string{"firewall-drops"}},
	{"ESP dropped", `chain in { type filter hook input priority 0; meta l4proto esp drop; }`, []string{"firewall-drops"}},
	{"UDP rejected", `chain in { type filter hook input priority 0; udp dport 4000-5000 reject; }`, []string{"firewall-drops"}},
	{"VIP dropped early", `chain pre { type filter hook prerouting priority -300; ip daddr 192.0.2.0/24 drop; }`, []string{"firewall-drops"}},
	{"replies dropped", `chain out { type filter hook output priority 0; ip saddr 192.0.2.100 drop; }`, []string{"firewall-drops"}},
	{"what is not new dropped", `chain in { type filter hook input priority 0; ct state != new drop; }`, nil},
	{"what is not established dropped", `chain in { type filter hook input priority 0; ct state != { established, related } drop; }`, []string{"firewall-drops"}},
	{"limited", `chain in { type filter hook input priority 0; udp dport 4500 limit rate over 10/second drop; }`, []string{"firewall-may-drop"}},
	{"reverse path", `chain pre { type filter hook prerouting priority 0; fib saddr . iif oif missing drop; }`, []string{"firewall-may-drop"}},
	{"address is not local", `chain pre { type filter hook input priority 0; fib daddr type != local drop; }`, nil},
	{"forwarding refused", `chain through { type filter hook forward priority 0; policy drop; }`, []string{"firewall-drops"}},
	{"forwarding let in by halves", `chain through { type filter hook forward priority 0; policy drop; ct state established accept; ip daddr 10.0.0.0/8 accept; ip6 daddr fc00::/7 accept; }`,
		[]string{"firewall-may-drop"}},
	{"invalid dropped", `chain through { type filter hook forward priority 0; ct state invalid drop; }`, []string{"ct-invalid"}},
	{"invalid dropped by a map", `chain in { type filter hook input priority 0; ct state vmap { invalid : drop, established : accept }; }`, []string{"ct-invalid"}},
}

func TestDoctorFirewall(t *testing.T) {
	for _, tt := range firewalls {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			in := s.instance()
			in.Protocols, in.ProbePort = []string{"esp", "udp/500", "udp/4500"}, 7461
			h := s.host(t, in)
			_, err := h.Apply(t.Context())
			must(t, err)
			s.rs.nft("table inet theirs {\n" + strings.ReplaceAll(tt.rules, "; }", ";\n}\n") + "\n}")
			if got := ids(t, h); !slices.Equal(got, tt.want) && len(got)+len(tt.want) > 0 {
				t.Errorf("found %v, want %v", got, tt.want)
			}
		})
	}
}

// Tables of the old iptables come to be as soon as their program asks for them.
func TestDoctorLegacy(t *testing.T) {
	s := newSite(t)
	h := s.host(t, s.instance())
	_, err := h.Apply(t.Context())
	must(t, err)
	there := false
	s.rs.in(func(*view) error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		info := make([]byte, 84) // struct ipt_getinfo
		copy(info, "filter")
		size := uint32(len(info))
		const getInfo = 64 // IPT_SO_GET_INFO
		_, _, e := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.IPPROTO_IP, getInfo, uintptr(unsafe.Pointer(&info[0])), uintptr(unsafe.Pointer(&size)), 0)
		there = e == 0
		return nil
	})
	if !there {
		t.Skip("the kernel has no iptables of old (module iptable_filter)")
	}
	if got := ids(t, h); !slices.Equal(got, []string{"firewall-legacy"}) {
		t.Errorf("found %v", got)
	}
}
