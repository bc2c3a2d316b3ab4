package probe

import (
	"encoding/binary"
	"net"
	"net/netip"

	"golang.org/x/net/bpf"
)

// maxFiltered is how many addresses per family fit the filter's jumps; more are let through by port alone.
const maxFiltered = 8

const acceptAll = 0xffff // bytes

// filter lets through, of what is addressed to mac, answers to probes from own: ARP replies, neighbour advertisements, echo
// replies, unreachables, and UDP and TCP to PortBase and above. It is what keeps user traffic from waking the prober.
func filter(mac net.HardwareAddr, own []netip.Addr) ([]bpf.RawInstruction, error) {
	p := append(require(0, 4, binary.BigEndian.Uint32(mac)), require(4, 2, uint32(binary.BigEndian.Uint16(mac[4:])))...)
	var own4, own6 []netip.Addr
	for _, a := range own {
		if a.Is4() {
			own4 = append(own4, a)
		} else {
			own6 = append(own6, a)
		}
	}
	p = append(p, bpf.LoadAbsolute{Off: 12, Size: 2})
	for _, part := range []struct {
		etherType uint32
		code      []bpf.Instruction
	}{
		{0x0806, append(require(20, 2, 2), bpf.RetConstant{Val: acceptAll})},
		{0x0800, append(oneOf(30, own4), answers4()...)},
		{0x86dd, append(oneOf(38, own6), answers6()...)},
	} {
		// Every part returns, so that the EtherType is still in the register for the next.
		p = append(p, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: part.etherType, SkipTrue: uint8(len(part.code))})
		p = append(p, part.code...)
	}
	return bpf.Assemble(append(p, bpf.RetConstant{Val: 0}))
}

func require(off uint32, size int, val uint32) []bpf.Instruction {
	return []bpf.Instruction{bpf.LoadAbsolute{Off: off, Size: size}, bpf.JumpIf{Cond: bpf.JumpEqual, Val: val, SkipTrue: 1}, bpf.RetConstant{Val: 0}}
}

// acceptIf accepts if the register is val.
func acceptIf(val uint32) []bpf.Instruction {
	return []bpf.Instruction{bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: val, SkipTrue: 1}, bpf.RetConstant{Val: acceptAll}}
}

// oneOf goes on if the address at off is one of addrs, or if these are too many.
func oneOf(off uint32, addrs []netip.Addr) (p []bpf.Instruction) {
	if len(addrs) > maxFiltered {
		return nil
	}
	words := 1
	if off == 38 {
		words = 4
	}
	length := len(addrs)*(2*words+1) + 1
	for _, a := range addrs {
		b := a.AsSlice()
		next := len(p) + 2*words + 1
		for w := range words {
			p = append(p, bpf.LoadAbsolute{Off: off + uint32(4*w), Size: 4})
			p = append(p, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: binary.BigEndian.Uint32(b[4*w:]), SkipTrue: uint8(next - len(p) - 1)})
		}
		p = append(p, bpf.Jump{Skip: uint32(length - len(p) - 1)})
	}
	return append(p, bpf.RetConstant{Val: 0})
}

func answers4() []bpf.Instruction {
	transport := []bpf.Instruction{
		bpf.LoadIndirect{Off: 16, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpLessThan, Val: PortBase, SkipTrue: 1}, bpf.RetConstant{Val: acceptAll}, bpf.RetConstant{Val: 0},
	}
	icmp := []bpf.Instruction{bpf.LoadIndirect{Off: 14, Size: 1}}
	icmp = append(append(icmp, acceptIf(0)...), append(acceptIf(3), bpf.RetConstant{Val: 0})...)
	p := []bpf.Instruction{
		bpf.LoadAbsolute{Off: 20, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpBitsNotSet, Val: 0x1fff, SkipTrue: 1}, bpf.RetConstant{Val: 0}, // a later fragment
		bpf.LoadMemShift{Off: 14},
		bpf.LoadAbsolute{Off: 23, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 1, SkipTrue: 3},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 6, SkipTrue: uint8(2 + len(icmp))},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 17, SkipTrue: uint8(1 + len(icmp))},
		bpf.RetConstant{Val: 0},
	}
	return append(append(p, icmp...), transport...)
}

func answers6() []bpf.Instruction {
	transport := []bpf.Instruction{
		bpf.LoadAbsolute{Off: 56, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpLessThan, Val: PortBase, SkipTrue: 1}, bpf.RetConstant{Val: acceptAll}, bpf.RetConstant{Val: 0},
	}
	icmp := []bpf.Instruction{bpf.LoadAbsolute{Off: 54, Size: 1}}
	for _, t := range []uint32{1, 129, 136} {
		icmp = append(icmp, acceptIf(t)...)
	}
	icmp = append(icmp, bpf.RetConstant{Val: 0})
	p := []bpf.Instruction{
		bpf.LoadAbsolute{Off: 20, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 58, SkipTrue: 3},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 6, SkipTrue: uint8(2 + len(icmp))},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 17, SkipTrue: uint8(1 + len(icmp))},
		bpf.RetConstant{Val: 0},
	}
	return append(append(p, icmp...), transport...)
}
