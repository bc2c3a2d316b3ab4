package affinity

import "testing"

// TestProtocolsReadBack: whatever name a protocol is printed by is read as that protocol.
func TestProtocolsReadBack(t *testing.T) {
	for n := range 256 {
		proto := uint8(n)
		name := ProtoName(proto)
		if got, err := ParseProto(name); proto == 0 {
			if err == nil {
				t.Errorf("%q, which is no protocol, is read as %d", name, got)
			}
		} else if err != nil || got != proto {
			t.Errorf("protocol %d is printed as %q, and that is read as %d, %v", n, name, got, err)
		}
		m := Match{Proto: proto}
		if HasPorts(proto) {
			m.Lo, m.Hi = 500, 4500
		}
		got, err := ParseMatch(m.String())
		switch proto {
		case 0, 1, 58: // no service balances them
			if err == nil {
				t.Errorf("%q is read as %v", m.String(), got)
			}
		default:
			if err != nil || got != m {
				t.Errorf("%#v is printed as %q, and that is read as %#v, %v", m, m.String(), got, err)
			}
		}
	}
}
