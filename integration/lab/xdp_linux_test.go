package lab

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// TestWiresCarryRedirectedFrames forwards both directions by native XDP on the director's interfaces, for one real
// server. The outer packets are UDP, the inner ones ICMP, UDP and TCP; the ends check their checksums.
func TestWiresCarryRedirectedFrames(t *testing.T) {
	t.Parallel()
	l := newLab(t, Options{Sites: 2, RealServers: 1, OnLinkVIP: true})
	d, r := l.Director, l.RealServers[0]
	if err := d.Hold("lo", netip.PrefixFrom(VIP4, 32)); err != nil {
		t.Fatal(err)
	}
	redirect(t, d, d.Sites, netip.PrefixFrom(VIP4, 32), r.DR.MAC)
	redirect(t, d, d.Inner, Covers[0], r.DR.MAC)
	ctx := within(t, 15*time.Second)
	if err := l.Establish(ctx); err != nil {
		t.Fatal(err)
	}
	target := l.Target.Inner.Addrs[0]
	for _, s := range l.Sites {
		echoes, err := l.Ping(ctx, l.Target.Namespace, target, s.Inside[0], 5*time.Millisecond, 20)
		if err != nil || CountLost(echoes) != 0 {
			t.Errorf("%s: ping lost %d of 20: %v", s.Name, CountLost(echoes), err)
		}
		if good, err := l.EchoUDP(ctx, l.Target.Namespace, target, s.Inside[0], 20, 1000); good != 20 || err != nil {
			t.Errorf("%s: UDP lost %d of 20: %v", s.Name, 20-good, err)
		}
		for _, size := range []int{1, 1_000_000} {
			if _, err := l.TransferTCP(ctx, l.Target.Namespace, target, s.Inside[0], size); err != nil {
				t.Errorf("%s, TCP: %v", s.Name, err)
			}
		}
	}
}

// redirect attaches a program to an interface of the director that sends frames for a network to a MAC address on the
// real servers' network, and passes all others.
func redirect(t *testing.T, d *Director, in Port, to netip.Prefix, mac net.HardwareAddr) {
	t.Helper()
	err := d.Run(func() error {
		rs, err := netlink.LinkByName(d.RS.Name)
		if err != nil {
			return err
		}
		link, err := netlink.LinkByName(in.Name)
		if err != nil {
			return err
		}
		prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
			Name: "redirect", Type: ebpf.XDP, License: "Apache-2.0",
			Instructions: redirectProgram(to, mac, d.RS.MAC, rs.Attrs().Index),
		})
		if err != nil {
			return fmt.Errorf("load: %w", err)
		}
		defer prog.Close()
		return netlink.LinkSetXdpFdWithFlags(link, prog.FD(), unix.XDP_FLAGS_DRV_MODE)
	})
	if err != nil {
		t.Fatalf("redirect %s by %s: %v", to, in.Name, err)
	}
}

func redirectProgram(to netip.Prefix, dst, src net.HardwareAddr, ifindex int) asm.Instructions {
	word := func(b []byte) int32 { return int32(binary.NativeEndian.Uint32(b)) }
	half := func(b []byte) int64 { return int64(binary.NativeEndian.Uint16(b)) }
	network := to.Masked().Addr().As4()
	mask := net.CIDRMask(to.Bits(), 32)
	return asm.Instructions{
		asm.LoadMem(asm.R2, asm.R1, 0, asm.Word), // data
		asm.LoadMem(asm.R3, asm.R1, 4, asm.Word), // data_end
		asm.Mov.Reg(asm.R4, asm.R2),
		asm.Add.Imm(asm.R4, 34),
		asm.JGT.Reg(asm.R4, asm.R3, "pass"),
		asm.LoadMem(asm.R5, asm.R2, 12, asm.Half),
		asm.JNE.Imm(asm.R5, int32(half([]byte{0x08, 0x00})), "pass"),
		asm.LoadMem(asm.R5, asm.R2, 30, asm.Word), // destination
		asm.And.Imm32(asm.R5, word(mask)),
		asm.JNE.Imm32(asm.R5, word(network[:]), "pass"),
		asm.StoreImm(asm.R2, 0, int64(word(dst[:4])), asm.Word),
		asm.StoreImm(asm.R2, 4, half(dst[4:]), asm.Half),
		asm.StoreImm(asm.R2, 6, int64(word(src[:4])), asm.Word),
		asm.StoreImm(asm.R2, 10, half(src[4:]), asm.Half),
		asm.Mov.Imm(asm.R1, int32(ifindex)),
		asm.Mov.Imm(asm.R2, 0),
		asm.FnRedirect.Call(),
		asm.Return(),
		asm.Mov.Imm(asm.R0, 2).WithSymbol("pass"), // XDP_PASS
		asm.Return(),
	}
}
