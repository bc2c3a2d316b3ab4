package vm

import (
	"encoding/binary"
	"net"
	"net/netip"
	"runtime"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// What the generator sends: UDP of a random source out of so many, from 10.0.0.0 on.
const (
	firstSource = 0x0a000000
	sourcePort  = 40000
	vipPort     = 4500
	frameSize   = 64
)

var vip = netip.MustParseAddr("192.0.2.10")

// source is source i of the generator.
func source(i int) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], uint32(firstSource+i))
	return netip.AddrFrom4(b)
}

func xdpProgram(t *testing.T, name string, ins asm.Instructions) *ebpf.Program {
	t.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: name, Type: ebpf.XDP, License: "Apache-2.0", Instructions: ins})
	must(t, "load program "+name, err)
	t.Cleanup(func() { p.Close() })
	return p
}

// passing lets the kernel have all frames.
func passing(t *testing.T) *ebpf.Program {
	return xdpProgram(t, "pass", asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()})
}

// feeding writes the next packet over the whole frame, whatever became of it the last time, and sends it by an interface.
func feeding(t *testing.T, ifindex, sources int, dst, src net.HardwareAddr) *ebpf.Program {
	h := header(dst, src)
	ins := asm.Instructions{
		asm.LoadMem(asm.R7, asm.R1, 0, asm.Word), asm.LoadMem(asm.R2, asm.R1, 4, asm.Word), // data, data_end
		asm.Mov.Reg(asm.R3, asm.R7), asm.Add.Imm(asm.R3, int32(len(h))), asm.JGT.Reg(asm.R3, asm.R2, "no room"),
	}
	for i := 0; i < len(h); i += 2 {
		ins = append(ins, asm.StoreImm(asm.R7, int16(i), int64(binary.NativeEndian.Uint16(h[i:])), asm.Half))
	}
	sum := uint32(0) // of the IP header as it is without source and checksum
	for i := 14; i < 34; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(h[i:]))
	}
	return xdpProgram(t, "feed", append(ins,
		asm.FnGetPrandomU32.Call(), asm.Mod.Imm(asm.R0, int32(sources)), asm.Add.Imm(asm.R0, firstSource),
		asm.Mov.Reg(asm.R1, asm.R0), asm.HostTo(asm.BE, asm.R1, asm.Word), asm.StoreMem(asm.R7, 26, asm.R1, asm.Word),
		asm.Mov.Reg(asm.R2, asm.R0), asm.RSh.Imm(asm.R2, 16), asm.And.Imm(asm.R0, 0xffff), asm.Add.Reg(asm.R2, asm.R0), asm.Add.Imm(asm.R2, int32(sum)),
		asm.Mov.Reg(asm.R3, asm.R2), asm.RSh.Imm(asm.R3, 16), asm.And.Imm(asm.R2, 0xffff), asm.Add.Reg(asm.R2, asm.R3),
		asm.Mov.Reg(asm.R3, asm.R2), asm.RSh.Imm(asm.R3, 16), asm.Add.Reg(asm.R2, asm.R3), asm.Xor.Imm(asm.R2, -1), asm.And.Imm(asm.R2, 0xffff),
		asm.HostTo(asm.BE, asm.R2, asm.Half), asm.StoreMem(asm.R7, 24, asm.R2, asm.Half),
		asm.Mov.Imm(asm.R1, int32(ifindex)), asm.Mov.Imm(asm.R2, 0), asm.FnRedirect.Call(), asm.Return(),
		asm.Mov.Imm(asm.R0, 0).WithSymbol("no room"), asm.Return(),
	))
}

// header is Ethernet, IPv4 and UDP, without source address and checksums.
func header(dst, src net.HardwareAddr) []byte {
	h := append(append([]byte{}, dst...), src...)
	h = append(h, 0x08, 0x00, 0x45, 0, 0, frameSize-14, 0, 0, 0, 0, 64, unix.IPPROTO_UDP, 0, 0, 0, 0, 0, 0)
	h = append(h, vip.AsSlice()...)
	h = binary.BigEndian.AppendUint16(h, sourcePort)
	h = binary.BigEndian.AppendUint16(h, vipPort)
	return append(h, 0, frameSize-34, 0, 0)
}

// taking counts IPv4 and drops it.
func taking(t *testing.T, count *ebpf.Map) *ebpf.Program {
	return xdpProgram(t, "take", asm.Instructions{
		asm.LoadMem(asm.R2, asm.R1, 0, asm.Word), asm.LoadMem(asm.R3, asm.R1, 4, asm.Word),
		asm.Mov.Reg(asm.R4, asm.R2), asm.Add.Imm(asm.R4, 14), asm.JGT.Reg(asm.R4, asm.R3, "pass"),
		asm.LoadMem(asm.R5, asm.R2, 12, asm.Half), asm.JNE.Imm(asm.R5, int32(binary.NativeEndian.Uint16([]byte{8, 0})), "pass"),
		asm.StoreImm(asm.RFP, -4, 0, asm.Word), asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, -4),
		asm.LoadMapPtr(asm.R1, count.FD()), asm.FnMapLookupElem.Call(), asm.JEq.Imm(asm.R0, 0, "pass"),
		asm.Mov.Imm(asm.R1, 1), asm.StoreXAdd(asm.R0, asm.R1, asm.DWord), asm.Mov.Imm(asm.R0, 1), asm.Return(), // XDP_DROP
		asm.Mov.Imm(asm.R0, 2).WithSymbol("pass"), asm.Return(),
	})
}

// run lets a program write and send so many frames, on one processor.
func run(p *ebpf.Program, count int) error {
	var cpu unix.CPUSet
	cpu.Set(runtime.NumCPU() - 1)
	if err := unix.SchedSetaffinity(0, &cpu); err != nil {
		return err
	}
	_, err := p.Run(&ebpf.RunOptions{Data: make([]byte, frameSize), Repeat: uint32(count), Flags: unix.BPF_F_TEST_XDP_LIVE_FRAMES})
	return err
}
