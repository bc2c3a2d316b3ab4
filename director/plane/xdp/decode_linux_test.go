package xdp

import (
	"bytes"
	"encoding/binary"
	"testing"

	"tunneldirector/director/plane"
)

func encodedSample(t testing.TB) []byte {
	t.Helper()
	v := forwardSample{Ktime: 1, Ifindex: 7, Length: 1500, Captured: 128, Service: 2, Tenant: 3, Index: 4, Reason: uint8(plane.DropLoop), Side: uint8(plane.SubnetSide), Watched: 1}
	v.Head[127] = 9
	var b bytes.Buffer
	if err := binary.Write(&b, binary.NativeEndian, v); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestDecodeSample(t *testing.T) {
	raw := encodedSample(t)
	name := func(uint32) string { return "eth0" }
	s, err := decodeSample(raw, name)
	if err != nil {
		t.Fatal(err)
	}
	if s.Interface != "eth0" || s.Reason != plane.DropLoop || s.Side != plane.SubnetSide || s.Service != 2 || s.Tenant != 3 || s.RealServer != 4 || s.Length != 1500 || !s.Watched ||
		len(s.Head) != plane.SampleBytes || s.Head[127] != 9 {
		t.Errorf("%+v", s)
	}
	if _, err := decodeSample(raw[:len(raw)-1], name); err == nil {
		t.Error("one that is cut short is no error")
	}
}

func BenchmarkDecodeSample(b *testing.B) {
	raw := encodedSample(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := decodeSample(raw, func(uint32) string { return "eth0" }); err != nil {
			b.Fatal(err)
		}
	}
}
