package planetest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"tunneldirector/director/plane"
	"tunneldirector/director/plane/mem"
)

// A fault is done to a frame whose IP header begins at l3; the verdict is rules 2 and 3.
type fault struct {
	name    string
	spoil   func(frame []byte, l3 int) []byte
	verdict Verdict
}

// faults are what no plane.Packet can say.
func faults() []fault {
	return []fault{
		{"the IP header cut short", func(f []byte, l3 int) []byte { return f[:l3+19] }, Drop},
		{"nothing behind Ethernet's type", func(f []byte, l3 int) []byte { return f[:l3] }, Drop},
		{"IP version 5", func(f []byte, l3 int) []byte { f[l3] = f[l3]&15 | 0x50; return f }, Drop},
		{"the other IP version", func(f []byte, l3 int) []byte { f[l3] ^= 0x20; return f }, Drop},
		{"an IP length beyond the frame", func(f []byte, l3 int) []byte {
			at := l3 + 2
			if f[l3]>>4 == 6 {
				at = l3 + 4
			}
			binary.BigEndian.PutUint16(f[at:], uint16(len(f)-l3+1))
			return f
		}, Drop},
		{"an IPv4 header of 16 bytes, or a jumbogram", func(f []byte, l3 int) []byte {
			if f[l3]>>4 == 4 {
				f[l3] = 0x44
				return f
			}
			binary.BigEndian.PutUint16(f[l3+4:], 0xffff)
			return f
		}, Drop},
		{"ARP", func(f []byte, l3 int) []byte { binary.BigEndian.PutUint16(f[l3-2:], 0x0806); return f }, Pass},
		{"two tags more", func(f []byte, _ int) []byte { return slices.Insert(f, 12, 0x81, 0, 0, 10, 0x81, 0, 0, 11) }, Pass},
		{"a provider's tag", func(f []byte, _ int) []byte { return slices.Insert(f, 12, 0x88, 0xa8, 0, 10) }, Pass},
	}
}

// broken gives the plane p's frame with each fault.
func (r *rig) broken(oracle *mem.Plane, p *plane.Packet) *failure {
	if r.opt.Inject == nil || p.Interface == "" || p.OtherMAC {
		return nil
	}
	if _, err := oracle.Lookup(*p); err != nil {
		return nil // an interface that the plane has not
	}
	l3 := 14
	if p.VLAN != 0 {
		l3 = 18
	}
	for _, one := range faults() {
		in, err := r.frame(*p)
		if err != nil {
			return &failure{what: err.Error(), packet: p}
		}
		in = one.spoil(in, l3)
		r.tally.frames++
		out, err := r.opt.Inject(bytes.Clone(in), p.Interface)
		switch {
		case err != nil:
			err = fmt.Errorf("inject: %w", err)
		case out.Verdict == Drop && r.opt.Caps.Stack:
		case out.Verdict != one.verdict:
			err = fmt.Errorf("verdict %v, want %v", out.Verdict, one.verdict)
		case out.Verdict == Pass && len(out.Frame) > 0 && !bytes.Equal(out.Frame, in):
			err = fmt.Errorf("passed up, but changed: %x became %x", in, out.Frame)
		}
		if err != nil {
			return &failure{what: fmt.Sprintf("the frame with %s: %v", one.name, err), packet: p}
		}
	}
	return nil
}
