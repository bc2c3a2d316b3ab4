//go:build linux

package xdp

import (
	"bytes"
	"testing"

	"tunneldirector/director/plane"
)

// extended is an IPv6 packet of UDP with extension headers between, each of the given kind; 44 is a fragment header with
// the given fragment word.
func extended(t *testing.T, p *Plane, word byte, kinds ...byte) []byte {
	t.Helper()
	frame, err := buildFrame(plane.Packet{Src: addr("2001:db8:f::1"), Dst: addr("2001:db8::1"), Proto: 17, SrcPort: 99, DstPort: 500, Hops: 9}, macOf(p, "tun"), siteMAC)
	must(t, err)
	head, body := bytes.Clone(frame[:54]), frame[54:]
	var chain []byte
	next := &head[20]
	for _, k := range kinds {
		*next = k
		h := make([]byte, 8, 24)
		if k == 44 {
			h[3] = word
		} else if k == 60 { // a longer one
			h = h[:24]
			h[1] = 2
		}
		chain = append(chain, h...)
		next = &chain[len(chain)-len(h)]
	}
	*next = 17
	head[19] += byte(len(chain))
	return append(append(head, chain...), body...)
}

// TestExtensionHeaders: 2001:db8:f::1 has a pin by port 99 to real server 2, and one without to 1; so the MAC address tells
// whether ports were found.
func TestExtensionHeaders(t *testing.T) {
	p := examplePlane(t)
	byPort, byAddr := rsMAC(addr("2001:db8:9::12")), rsMAC(addr("2001:db8:9::11"))
	for _, c := range []struct {
		name  string
		word  byte
		kinds []byte
		to    [6]byte // zero: dropped as malformed
	}{
		{"none", 0, nil, byPort},
		{"hop-by-hop", 0, []byte{0}, byPort},
		{"all", 0, []byte{0, 60, 43, 60}, byPort},
		{"six", 0, []byte{0, 60, 43, 60, 43, 60}, byPort},
		{"seven", 0, []byte{0, 60, 43, 60, 43, 60, 43}, [6]byte{}},
		{"atomic fragment", 0, []byte{0, 44}, byPort},
		{"first fragment", 1, []byte{44, 60}, byPort},
		{"later fragment", 9, []byte{43, 44}, byAddr},
	} {
		frame := extended(t, p, c.word, c.kinds...)
		action, out := run(t, p, "tun", frame)
		switch {
		case c.to == [6]byte{} && action != xdpDrop:
			t.Errorf("%s: action %d, want drop", c.name, action)
		case c.to != [6]byte{} && (action != xdpRedirect || [6]byte(out[:6]) != c.to):
			t.Errorf("%s: action %d to %x, want %x", c.name, action, out[:6], c.to)
		}
		// cut anywhere, it is never forwarded, and nothing happens that is not a drop
		for n := 15; n < len(frame); n++ {
			if action, _ := run(t, p, "tun", frame[:n]); action != xdpDrop {
				t.Errorf("%s cut to %d bytes: action %d", c.name, n, action)
			}
		}
	}
	s, err := p.Stats()
	must(t, err)
	if s.Reasons[plane.DropMalformed] == 0 {
		t.Errorf("counted %v", s.Reasons)
	}
}

// TestCutShort4 does the same to IPv4 with options, and lies about lengths.
func TestCutShort4(t *testing.T) {
	p := examplePlane(t)
	frame, err := buildFrame(plane.Packet{Src: addr("198.51.100.2"), Dst: addr("192.0.2.1"), Proto: 17, SrcPort: 4321, DstPort: 500, Hops: 9, Size: 60}, macOf(p, "tun"), siteMAC)
	must(t, err)
	options := append(bytes.Clone(frame[:34]), 1, 1, 1, 0)
	options = append(options, frame[34:]...)
	options[14], options[17] = 0x46, 64
	action, out := run(t, p, "tun", options)
	if action != xdpRedirect || [6]byte(out[:6]) != rsMAC(addr("10.9.0.11")) {
		t.Errorf("with options: action %d to %x", action, out[:6])
	}
	for n := 15; n < len(options); n++ {
		if action, _ := run(t, p, "tun", options[:n]); action != xdpDrop {
			t.Errorf("cut to %d bytes: action %d", n, action)
		}
	}
	for name, lie := range map[string]func(f []byte){
		"header longer than the packet": func(f []byte) { f[14] = 0x4f; f[17] = 59 },
		"length below the header":       func(f []byte) { f[17] = 19 },
		"length without room for ports": func(f []byte) { f[17] = 27 },
		"length over the frame":         func(f []byte) { f[17] = 61 },
		"header of 16 bytes":            func(f []byte) { f[14] = 0x44 },
	} {
		f := bytes.Clone(frame)
		lie(f)
		if action, _ := run(t, p, "tun", f); action != xdpDrop {
			t.Errorf("%s: action %d", name, action)
		}
	}
}
