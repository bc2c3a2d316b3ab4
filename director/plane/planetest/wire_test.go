package planetest

import (
	"bytes"
	"context"
	"encoding/binary"
	"iter"
	"net"
	"slices"
	"testing"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
	"tunneldirector/director/plane/mem"
)

// A wire is mem with hands: what its last Lookup decided is done to the next frame, right or, with spoil, wrong.
type wire struct {
	*mem.Plane
	last    plane.Packet
	decided plane.Decision
	frame   []byte
	servers []plane.RealServer
	spoil   func(w *wire, out *Outcome)
	// spoilFaulty is called for frames with a fault, spoil for all others.
	spoilFaulty func(out *Outcome)
}

func (w *wire) Lookup(p plane.Packet) (plane.Decision, error) {
	d, err := w.Plane.Lookup(p)
	w.last, w.decided = p, d
	return d, err
}

func (w *wire) inject(frame []byte, _ string) (Outcome, error) {
	out := Outcome{Verdict: Drop}
	w.frame = frame
	if v, fault := faulty(frame); fault {
		out = Outcome{Verdict: v, Frame: frame}
		if w.spoilFaulty != nil {
			w.spoilFaulty(&out)
		}
		return out, nil
	}
	switch r := w.decided.Reason; {
	case r == plane.None:
		out = Outcome{Verdict: Redirect, Frame: w.send(frame)}
	case r == plane.DropTooBig && (w.last.DF || w.last.Dst.Is6()):
		out = Outcome{Verdict: TX, Frame: tellTooBig(frame, w.mtu())}
	case !r.Drops():
		out = Outcome{Verdict: Pass, Frame: frame}
	}
	if w.spoil != nil {
		w.spoil(w, &out)
	}
	return out, nil
}

// faulty is rules 2 and 3.
func faulty(frame []byte) (Verdict, bool) {
	at := payload(frame)
	if kind := binary.BigEndian.Uint16(frame[at-2:]); kind != 0x0800 && kind != 0x86dd {
		return Pass, true
	}
	_, err := split(frame)
	return Drop, err != nil || frame[at] == 0x44
}

// payload is where the IP packet begins.
func payload(frame []byte) int {
	if frame[12] == 0x81 {
		return 18
	}
	return 14
}

func (w *wire) server() plane.RealServer {
	i := slices.IndexFunc(w.servers, func(rs plane.RealServer) bool { return rs.Index == w.decided.RealServer })
	return w.servers[i]
}

func (w *wire) send(frame []byte) []byte {
	rs := w.server()
	host := DefaultHosts()[slices.IndexFunc(DefaultHosts(), func(h Host) bool { return slices.Equal(h.Addrs, rs.Addrs) })]
	ip := bytes.Clone(frame[payload(frame):])
	kind := []byte{0x08, 0x00}
	if w.last.Dst.Is6() {
		kind = []byte{0x86, 0xdd}
		ip[7]--
	} else {
		check := binary.BigEndian.Uint16(ip[10:]) // RFC 1624
		n := uint32(^check) + uint32(^binary.BigEndian.Uint16(ip[8:]))
		ip[8]--
		n += uint32(binary.BigEndian.Uint16(ip[8:]))
		for n > 0xffff {
			n = n&0xffff + n>>16
		}
		binary.BigEndian.PutUint16(ip[10:], ^uint16(n))
	}
	if rs.Method == affinity.IPIP {
		ip = encapsulate(ip, rs)
	}
	out := slices.Concat(host.MAC, net.HardwareAddr{2, 0, 0, 7, 7, 7})
	if tag := rs.VLANs[w.decided.Subnet.Tenant]; tag != 0 && w.decided.Side == plane.SubnetSide {
		out = append(out, 0x81, 0, byte(tag>>8), byte(tag))
	}
	return slices.Concat(out, kind, ip)
}

func encapsulate(ip []byte, rs plane.RealServer) []byte {
	if ip[0]>>4 == 4 {
		h := []byte{0x45, ip[1], 0, 0, 0, 0, 0x40, 0, 64, 4, 0, 0, 10, 9, 0, 254}
		binary.BigEndian.PutUint16(h[2:], 20+binary.BigEndian.Uint16(ip[2:]))
		dst, _ := addrOf(rs.Addrs, false)
		h = append(h, dst.AsSlice()...)
		binary.BigEndian.PutUint16(h[10:], ^sum(0, h))
		return append(h, ip...)
	}
	h := append(bytes.Clone(ip[:4]), 0, 0, 41, 64)
	binary.BigEndian.PutUint16(h[4:], 40+binary.BigEndian.Uint16(ip[4:]))
	dst, _ := addrOf(rs.Addrs, true)
	return slices.Concat(h, numbered(true, "", "2001:db8:9::", 254).AsSlice(), dst.AsSlice(), ip)
}

// mtu is the longest that the last packet may be.
func (w *wire) mtu() int {
	for size := 1500; size > 1000; size-- {
		p := w.last
		p.Size = size
		if d, err := w.Plane.Lookup(p); err == nil && d.Reason == plane.None {
			return size
		}
	}
	return 0
}

// tellTooBig is the ICMP error that frame's sender gets.
func tellTooBig(frame []byte, mtu int) []byte {
	at := payload(frame)
	ip := frame[at:]
	eth := slices.Concat(frame[6:12], frame[:6], frame[12:at])
	if ip[0]>>4 == 4 {
		body := append([]byte{3, 4, 0, 0, 0, 0, byte(mtu >> 8), byte(mtu)}, ip[:28]...)
		binary.BigEndian.PutUint16(body[2:], ^sum(0, body))
		h := slices.Concat([]byte{0x45, 0, 0, byte(20 + len(body)), 0, 0, 0, 0, 64, 1, 0, 0}, ip[16:20], ip[12:16])
		binary.BigEndian.PutUint16(h[10:], ^sum(0, h))
		return slices.Concat(eth, h, body)
	}
	body := append([]byte{2, 0, 0, 0, 0, 0, byte(mtu >> 8), byte(mtu)}, ip[:80]...)
	h := slices.Concat([]byte{0x60, 0, 0, 0, 0, byte(len(body)), 58, 64}, ip[24:40], ip[8:24])
	binary.BigEndian.PutUint16(body[2:], ^sum(uint32(len(body))+58+uint32(sum(0, h[8:])), body))
	return slices.Concat(eth, h, body)
}

// search plays histories with frames on a wire.
func (w *wire) search(t *testing.T) *failure {
	w.Plane = mem.New(DefaultInterfaces())
	opt := Options{Histories: 40, Seed: 1, Open: func(testing.TB) plane.Plane { return w }, Inject: w.inject}.withDefaults()
	f, _ := search(t, &opt)
	return f
}

func (w *wire) Apply(ctx context.Context, u plane.Update) error {
	if u.Config != nil {
		w.servers = u.Config.RealServers
	}
	return w.Plane.Apply(ctx, u)
}

func (w *wire) Replace(ctx context.Context, c plane.Config, entries iter.Seq[plane.Entry]) error {
	w.servers = c.RealServers
	return w.Plane.Replace(ctx, c, entries)
}

func TestWire(t *testing.T) {
	if f := (&wire{}).search(t); f != nil {
		t.Error(f)
	}
}

// forwardedOnly spoils frames that are forwarded, from their IP header on.
func forwardedOnly(spoil func(w *wire, ip []byte)) func(*wire, *Outcome) {
	return func(w *wire, out *Outcome) {
		if w.decided.Reason == plane.None {
			spoil(w, out.Frame[payload(out.Frame):])
		}
	}
}

func outer4(spoil func(ip []byte)) func(*wire, *Outcome) {
	return forwardedOnly(func(w *wire, ip []byte) {
		if w.server().Method == affinity.IPIP && w.last.Dst.Is4() {
			spoil(ip)
			ip[10], ip[11] = 0, 0
			binary.BigEndian.PutUint16(ip[10:], ^sum(0, ip[:20]))
		}
	})
}

func outer6(spoil func(ip []byte)) func(*wire, *Outcome) {
	return forwardedOnly(func(w *wire, ip []byte) {
		if w.server().Method == affinity.IPIP && w.last.Dst.Is6() {
			spoil(ip)
		}
	})
}

func told(v4 bool, spoil func(out *Outcome, ip []byte)) func(*wire, *Outcome) {
	return func(w *wire, out *Outcome) {
		if w.decided.Reason == plane.DropTooBig && out.Verdict == TX && w.last.Dst.Is4() == v4 {
			spoil(out, out.Frame[payload(out.Frame):])
		}
	}
}

func TestSpoiledFrames(t *testing.T) {
	for name, spoil := range map[string]func(*wire, *Outcome){
		"forwarded frames dropped": func(w *wire, out *Outcome) {
			if w.decided.Reason == plane.None {
				out.Verdict = Drop
			}
		},
		"dropped frames passed up": func(w *wire, out *Outcome) {
			if out.Verdict == Drop {
				out.Verdict = Pass
			}
		},
		"passed frames dropped": func(w *wire, out *Outcome) {
			if out.Verdict == Pass {
				out.Verdict = Drop
			}
		},
		"passed frames changed": func(w *wire, out *Outcome) {
			if out.Verdict == Pass {
				out.Frame = append(bytes.Clone(out.Frame[:len(out.Frame)-1]), 9)
			}
		},
		"wrong MAC": func(w *wire, out *Outcome) {
			if w.decided.Reason == plane.None {
				out.Frame[5] ^= 1
			}
		},
		"source MAC kept": func(w *wire, out *Outcome) {
			if w.decided.Reason == plane.None && w.last.From == 0 {
				copy(out.Frame[6:], siteMAC())
			}
		},
		"tag of the packet kept": func(w *wire, out *Outcome) {
			if w.decided.Reason == plane.None && w.last.VLAN != 0 && payload(out.Frame) == 14 {
				out.Frame = slices.Insert(out.Frame, 12, 0x81, 0, 0, byte(w.last.VLAN))
			}
		},
		"tag of the real server lost": func(w *wire, out *Outcome) {
			if w.decided.Reason == plane.None && payload(out.Frame) == 18 {
				out.Frame = slices.Delete(out.Frame, 12, 16)
			}
		},
		"checksum of the header": forwardedOnly(func(w *wire, ip []byte) {
			if ip[0]>>4 == 4 {
				ip[11]++
			}
		}),
		"hops not one less":         forwardedOnly(func(w *wire, ip []byte) { *ttl(ip)++ }),
		"payload touched":           forwardedOnly(func(w *wire, ip []byte) { ip[int(length(ip))-1]++ }),
		"outer TTL":                 outer4(func(ip []byte) { ip[8]-- }),
		"outer DF":                  outer4(func(ip []byte) { ip[6] = 0 }),
		"outer TOS":                 outer4(func(ip []byte) { ip[1] = 0 }),
		"outer protocol":            outer4(func(ip []byte) { ip[9] = 41 }),
		"outer source missing":      outer4(func(ip []byte) { clear(ip[12:16]) }),
		"outer destination":         outer4(func(ip []byte) { ip[19]++ }),
		"outer length":              outer4(func(ip []byte) { ip[3]-- }),
		"outer hop limit":           outer6(func(ip []byte) { ip[7]-- }),
		"outer traffic class":       outer6(func(ip []byte) { ip[0] = 0x60 }),
		"outer next header":         outer6(func(ip []byte) { ip[6] = 4 }),
		"outer destination of IPv6": outer6(func(ip []byte) { ip[39]++ }),
		"outer header missing": func(w *wire, out *Outcome) {
			if w.decided.Reason == plane.None && w.server().Method == affinity.IPIP && w.last.Dst.Is4() {
				at := payload(out.Frame)
				out.Frame = slices.Delete(out.Frame, at, at+20)
			}
		},
		"told without DF": func(w *wire, out *Outcome) {
			if w.decided.Reason == plane.DropTooBig && w.last.Dst.Is4() && !w.last.DF {
				out.Verdict, out.Frame = TX, tellTooBig(w.frame, w.mtu())
			}
		},
		"told one more":           told(true, func(_ *Outcome, ip []byte) { ip[27]++; ip[23]-- }),
		"told nothing of use":     told(true, func(_ *Outcome, ip []byte) { ip[26], ip[27] = 0, 0 }),
		"told with a wrong sum":   told(true, func(_ *Outcome, ip []byte) { ip[23]++ }),
		"told somebody else":      told(true, func(_ *Outcome, ip []byte) { ip[19]++ }),
		"told another MAC":        told(true, func(out *Outcome, _ []byte) { out.Frame[3]++ }),
		"told v6 a wrong sum":     told(false, func(_ *Outcome, ip []byte) { ip[43]++ }),
		"told v6 somebody else":   told(false, func(_ *Outcome, ip []byte) { ip[39]++ }),
		"told v6 by another type": told(false, func(_ *Outcome, ip []byte) { ip[40] = 1 }),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if f := (&wire{spoil: spoil}).search(t); f == nil {
				t.Error("not found")
			}
		})
	}
}

func ttl(ip []byte) *byte {
	if ip[0]>>4 == 4 {
		return &ip[8]
	}
	return &ip[7]
}

func length(ip []byte) uint16 {
	if ip[0]>>4 == 4 {
		return binary.BigEndian.Uint16(ip[2:])
	}
	return 40 + binary.BigEndian.Uint16(ip[4:])
}

func TestFaultyFrames(t *testing.T) {
	for name, spoil := range map[string]func(*Outcome){
		"malformed passed up": func(out *Outcome) { out.Verdict = Pass },
		"ARP dropped":         func(out *Outcome) { out.Verdict = Drop },
		"passed but changed":  func(out *Outcome) { out.Frame = append(bytes.Clone(out.Frame), 0) },
	} {
		t.Run(name, func(t *testing.T) {
			if f := (&wire{spoilFaulty: spoil}).search(t); f == nil {
				t.Error("not found")
			}
		})
	}
}
