package smoke

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
)

// inGuest skips a test that is not in the virtual machine.
func inGuest(t *testing.T) {
	t.Helper()
	if os.Getenv("TUNNELDIRECTOR_VM") == "" {
		t.Skip("not in the virtual machine: go run ./integration/vm/run -package ./integration/vm/smoke")
	}
}

func TestNothingButLoopback(t *testing.T) {
	inGuest(t)
	interfaces, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	if len(interfaces) != 1 || interfaces[0].Name != "lo" || interfaces[0].Flags&net.FlagUp == 0 {
		t.Errorf("interfaces are %v, want lo alone, and up", interfaces)
	}
}

func TestModules(t *testing.T) {
	inGuest(t)
	for _, module := range []string{
		"ip_vs", "ip_vs_rr", "ip_vs_mh", "esp4", "esp6", "ah4", "ah6", "xfrm_user", "wireguard", "ip_gre", "ip6_gre", "ipip", "ip6_tunnel", "sit",
		"l2tp_ip", "l2tp_ip6", "l2tp_eth", "nf_tables", "nft_masq", "nf_conntrack", "vrf", "vxlan", "dummy", "veth", "tun", "bridge", "8021q",
	} {
		t.Run(module, func(t *testing.T) {
			if out, err := exec.Command("modprobe", module).CombinedOutput(); err != nil {
				t.Fatalf("modprobe %s: %v: %s", module, err, out)
			}
			if _, err := os.Stat(filepath.Join("/sys/module", strings.ReplaceAll(module, "-", "_"))); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestPrograms starts one program of each package that others rely on: its libraries have to be there.
func TestPrograms(t *testing.T) {
	inGuest(t)
	for _, command := range []string{
		"ip -V", "nft --version", "ipvsadm -Ln", "tcpdump --version", "ping -V", "wg --version", "iperf3 --version", "conntrack --version", "bash --version",
		"swanctl --help", "/usr/lib/ipsec/charon --version", "/usr/libexec/ipsec/pluto --version", "/usr/libexec/ipsec/whack --version",
		"pppd --version", "busybox true",
	} {
		t.Run(command, func(t *testing.T) {
			args := strings.Fields(command)
			if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}

// TestKernelLoadsByItself wants the kernel to find a module that nobody loaded by name.
func TestKernelLoadsByItself(t *testing.T) {
	inGuest(t)
	link := &netlink.Geneve{LinkAttrs: netlink.LinkAttrs{Name: "geneve0"}, ID: 7, Remote: net.IPv4(192, 0, 2, 1)}
	if err := netlink.LinkAdd(link); err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkDel(link); err != nil {
		t.Error(err)
	}
}

// TestOut leaves a file for the host, which looks for it.
func TestOut(t *testing.T) {
	inGuest(t)
	dir := filepath.Join(os.Getenv("OUT"), "smoke")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "left"), []byte("for the host\n"), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestTestdata reads a file that has to come along with the tests.
func TestTestdata(t *testing.T) {
	inGuest(t)
	if b, err := os.ReadFile("testdata/brought"); err != nil || string(b) != "along\n" {
		t.Errorf("testdata holds %q, %v", b, err)
	}
}
