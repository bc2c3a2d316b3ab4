package lab

import (
	"encoding/binary"
	"net"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// TestTagsAreInTheFrame sends 802.1Q frames from the target and counts those that an XDP program at the director sees
// tagged.
func TestTagsAreInTheFrame(t *testing.T) {
	t.Parallel()
	l := newLab(t, Options{Sites: 1, RealServers: 1})
	seen, err := ebpf.NewMap(&ebpf.MapSpec{Name: "seen", Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer seen.Close()
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "count_tagged", Type: ebpf.XDP, License: "Apache-2.0", Instructions: countTagged(seen.FD()),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer prog.Close()
	err = l.Director.Run(func() error {
		link, err := netlink.LinkByName(l.Director.Inner.Name)
		if err != nil {
			return err
		}
		return netlink.LinkSetXdpFdWithFlags(link, prog.FD(), unix.XDP_FLAGS_DRV_MODE)
	})
	if err != nil {
		t.Fatal(err)
	}
	const n = 5
	sendTagged(t, l.Target, l.Director.Inner.MAC, n)
	var got uint64
	for ctx := within(t, 2*time.Second); got < n && ctx.Err() == nil; <-time.After(time.Millisecond) {
		if err := seen.Lookup(uint32(0), &got); err != nil {
			t.Fatal(err)
		}
	}
	if got != n {
		t.Errorf("%d of %d frames had their tag", got, n)
	}
}

func countTagged(fd int) asm.Instructions {
	tpid := int32(binary.NativeEndian.Uint16([]byte{0x81, 0x00}))
	return asm.Instructions{
		asm.LoadMem(asm.R2, asm.R1, 0, asm.Word), // data
		asm.LoadMem(asm.R3, asm.R1, 4, asm.Word), // data_end
		asm.Mov.Reg(asm.R4, asm.R2),
		asm.Add.Imm(asm.R4, 18),
		asm.JGT.Reg(asm.R4, asm.R3, "pass"),
		asm.LoadMem(asm.R5, asm.R2, 12, asm.Half),
		asm.JNE.Imm(asm.R5, tpid, "pass"),
		asm.StoreImm(asm.RFP, -4, 0, asm.Word),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -4),
		asm.LoadMapPtr(asm.R1, fd),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "pass"),
		asm.Mov.Imm(asm.R1, 1),
		asm.StoreXAdd(asm.R0, asm.R1, asm.DWord),
		asm.Mov.Imm(asm.R0, 2).WithSymbol("pass"), // XDP_PASS
		asm.Return(),
	}
}

func sendTagged(t *testing.T, from *Target, dst net.HardwareAddr, n int) {
	t.Helper()
	frame := append(append([]byte{}, dst...), from.Inner.MAC...)
	frame = append(frame, 0x81, 0x00, 0, 100, 0x88, 0xb5) // tag 100, the local experimental ethertype
	frame = append(frame, make([]byte, 46)...)
	err := from.Run(func() error {
		link, err := netlink.LinkByName(from.Inner.Name)
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		for range n {
			if err := unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: link.Attrs().Index}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
