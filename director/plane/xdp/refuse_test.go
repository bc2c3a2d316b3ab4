//go:build linux

package xdp

import (
	"errors"
	"log/slog"
	"os"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tunneldirector/director/plane"
	"tunneldirector/integration/spaces"
)

// TestReasonsAreOneList holds types.h against package plane.
func TestReasonsAreOneList(t *testing.T) {
	b, err := os.ReadFile("bpf/types.h")
	must(t, err)
	want := map[string]plane.Reason{
		"FORWARDED": plane.None, "DROP_NO_SERVICE": plane.DropNoService, "DROP_UNKNOWN": plane.DropUnknown, "DROP_NO_PORT": plane.DropNoPort,
		"DROP_DEAD": plane.DropDead, "DROP_COVER": plane.DropCover, "DROP_LOOP": plane.DropLoop, "DROP_HOPS": plane.DropHops,
		"DROP_SOURCE": plane.DropSource, "DROP_TOO_BIG": plane.DropTooBig, "DROP_NO_NEIGHBOUR": plane.DropNoNeighbour,
		"DROP_MALFORMED": plane.DropMalformed, "DROP_AMBIGUOUS": plane.DropAmbiguous, "DROP_ICMP": plane.DropICMP, "DROP_ROLE": plane.DropRole,
		"PASS_NOT_IP": plane.PassNotIP, "PASS_MAC": plane.PassMAC, "PASS_LOCAL": plane.PassLocal, "PASS_CONTROL": plane.PassControl,
	}
	found := 0
	for _, m := range regexp.MustCompile(`(?m)^\t((?:DROP|PASS|FORWARDED)\w*) *= (\d+),`).FindAllStringSubmatch(string(b), -1) {
		found++
		r, ok := want[m[1]]
		if !ok || m[2] != strconv.Itoa(int(r)) {
			t.Errorf("types.h: %s = %s, package plane: %d", m[1], m[2], r)
		}
	}
	if found != len(want) {
		t.Errorf("%d of %d reasons in types.h", found, len(want))
	}
}

// TestGenericModeIsSaid: a bridge has no native XDP.
func TestGenericModeIsSaid(t *testing.T) {
	inNamespace(t)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "br0"
	must(t, netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}))
	var said strings.Builder
	o := Options{Interfaces: []plane.Interface{{Name: "br0", Roles: plane.RoleTunnel}}, PinPath: pinPath(t), MaxPins: 16, MaxSubnets: 16,
		Logger: slog.New(slog.NewTextHandler(&said, nil))}
	p, err := Open(o)
	must(t, err)
	if mode := p.Modes()["br0"]; mode != "generic" {
		t.Errorf("mode %q", mode)
	}
	must(t, p.Close())
	if s := said.String(); !strings.Contains(s, "level=WARN") || !strings.Contains(s, "interface=br0") || !strings.Contains(s, "cause=") {
		t.Errorf("said %q", s)
	}
}

// TestMissingCapabilityIsNamed opens with a thread that has given capabilities up.
func TestMissingCapabilityIsNamed(t *testing.T) {
	spaces.Root(t)
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		if err := unix.Capset(&header, &none[0]); err != nil {
			done <- err
			return
		}
		_, err := Open(Options{Interfaces: []plane.Interface{{Name: "lo"}}})
		done <- err
	}()
	err := <-done
	if !errors.Is(err, plane.ErrUnsupported) {
		t.Fatalf("opened without capabilities: %v", err)
	}
	for _, c := range []string{"CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON"} {
		if !strings.Contains(err.Error(), c) {
			t.Errorf("%q does not name %s", err, c)
		}
	}
}

func TestPinPathElsewhereIsRefused(t *testing.T) {
	inNamespace(t)
	veth(t, "tun", "tunx")
	_, err := Open(Options{Interfaces: threeSides[:1], PinPath: t.TempDir(), MaxPins: 16, MaxSubnets: 16})
	if err == nil || !strings.Contains(err.Error(), "bpffs") {
		t.Errorf("Open: %v", err)
	}
}
