package affinity

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var sameRecord = cmp.Options{
	cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{}),
	cmpopts.IgnoreFields(Header{}, "_"), cmpopts.IgnoreFields(Match{}, "_"), cmpopts.IgnoreFields(Check{}, "_"),
	cmpopts.EquateEmpty(),
}

type codec[T any] interface {
	*T
	Encode() ([]byte, error)
}

// roundTrip checks decode(encode(x)) == x, that equal records are equal bytes, and that bytes too many are refused.
func roundTrip[T any, P codec[T]](t *testing.T, rec P, decode func([]byte) (*T, error)) {
	t.Helper()
	b, err := rec.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := decode(b)
	if err != nil {
		t.Fatalf("%v\n%x", err, b)
	}
	if d := cmp.Diff((*T)(rec), got, sameRecord); d != "" {
		t.Fatalf("decode(encode(x)) differs from x (-x +got):\n%s", d)
	}
	again, err := P(got).Encode()
	if err != nil || !bytes.Equal(b, again) {
		t.Fatalf("encoded again: %x, want %x (error %v)", again, b, err)
	}
	if _, err := decode(append(b[:len(b):len(b)], 0)); err == nil {
		t.Fatal("a trailing byte was accepted")
	}
	if _, err := decode(b[:len(b)-1]); err == nil {
		t.Fatal("a record cut short was accepted")
	}
}

func TestRoundTrip(t *testing.T) {
	for seed := range uint64(500) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			r := random{rand.New(rand.NewPCG(seed, 1))}
			roundTrip(t, r.service(), DecodeService)
			roundTrip(t, r.tenant(), DecodeTenant)
			roundTrip(t, r.realServer(), DecodeRealServer)
			roundTrip(t, r.life(), DecodeLife)
			roundTrip(t, r.tunnel(), DecodeTunnel)
			roundTrip(t, r.pin(), DecodePin)
		})
	}
}

func TestEncodeWritesFormat(t *testing.T) {
	tun := &Tunnel{ID: "a"}
	b, err := tun.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeTunnel(b)
	if err != nil {
		t.Fatal(err)
	}
	if got.Header.Format != Format || tun.Header.Format != 0 {
		t.Errorf("format is %d, want %d; the record itself was changed to %d", got.Header.Format, Format, tun.Header.Format)
	}
}

func TestEncodeRefuses(t *testing.T) {
	tests := []struct {
		name string
		rec  interface{ Encode() ([]byte, error) }
		want string
	}{
		{"text that is none", &Tunnel{ID: "a\xff"}, `id: "a\xff" is not UTF-8`},
		{"label that is none", &Tunnel{ID: "a", Labels: map[string]string{"k": "\xff"}}, "labels"},
		{"invalid address", &Tunnel{ID: "a", Endpoints: []Endpoint{{}}}, "endpoints[0]"},
		{"invalid prefix", &Tenant{Name: "a", Covers: []netip.Prefix{{}}}, "covers[0]"},
		{"unknown word", &Service{Name: "a", Method: 9}, "method: 9"},
		{"unknown reason", &Pin{Group: "a", Why: 99}, "why: 99"},
		{"index too high", &Pin{Group: "a", Primary: MaxIndex + 1}, "primary: 4096"},
		{"too many", &Tunnel{ID: "a", Subnets: many(maxElements + 1)}, "limit is 4096"},
		{"too long", &Tunnel{ID: "a", Group: strings.Repeat("x", maxEncoded)}, "limit is 65536"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := tt.rec.Encode()
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "encode ") {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestDecodeRefuses(t *testing.T) {
	header := []any{uint64(1), "d1", uint32(0), false, uint8(Format)}
	newer := []any{uint64(1), "d1", uint32(0), false, uint8(Format + 1)}
	deep := any("x")
	for range 10 {
		deep = []any{deep}
	}
	tests := []struct {
		name  string
		rec   any
		newer bool
	}{
		{"newer format", map[int]any{1: newer, 2: "a"}, true},
		{"newer format with a new field", map[int]any{1: newer, 2: "a", 99: 1}, true},
		{"newer format with a longer header", map[int]any{1: append(newer[:5:5], 7), 2: "a"}, true},
		{"unknown field", map[int]any{1: header, 2: "a", 99: 1}, false},
		{"longer header", map[int]any{1: append(header[:5:5], 7), 2: "a"}, false},
		{"no header", map[int]any{2: "a"}, false},
		{"nested", map[int]any{1: header, 2: deep}, false},
		{"tag", map[int]any{1: header, 2: cbor.Tag{Number: 0, Content: "a"}}, false},
		{"unknown state", map[int]any{1: header, 2: "a", 11: 200}, false},
		{"address of 5 bytes", map[int]any{1: header, 2: "a", 6: [][]byte{{1, 2, 3, 4, 5, 6, 7}}}, false},
		{"prefix too long", map[int]any{1: header, 2: "a", 7: [][]byte{{1, 2, 3, 4, 33}}}, false},
		{"too many", map[int]any{1: header, 2: "a", 13: make([]string, maxElements+1)}, false},
		{"null", nil, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b, err := cbor.Marshal(tt.rec)
			if err != nil {
				t.Fatal(err)
			}
			got, err := DecodeTunnel(b)
			if err == nil || got != nil {
				t.Fatalf("accepted: %+v", got)
			}
			if errors.Is(err, ErrNewerFormat) != tt.newer {
				t.Errorf("error %v, want newer format: %v", err, tt.newer)
			}
		})
	}
	for _, b := range [][]byte{nil, {}, {0xff}, {0xbf, 0xff}, make([]byte, maxEncoded+1)} {
		if _, err := DecodeTunnel(b); err == nil {
			t.Errorf("%d bytes %.8x accepted", len(b), b)
		}
	}
}

func FuzzDecodeTunnel(f *testing.F) {
	for seed := range uint64(20) {
		b, err := random{rand.New(rand.NewPCG(seed, 2))}.tunnel().Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		tun, err := DecodeTunnel(b)
		if err != nil {
			return
		}
		_ = tun.State.String()
		enc, err := tun.Encode()
		if err != nil {
			t.Fatalf("what was decoded cannot be encoded: %v", err)
		}
		again, err := DecodeTunnel(enc)
		if err != nil {
			t.Fatalf("what was encoded cannot be decoded: %v", err)
		}
		if d := cmp.Diff(tun, again, sameRecord); d != "" {
			t.Fatalf("decode(encode(x)) differs from x:\n%s", d)
		}
	})
}

func typicalTunnel() *Tunnel {
	return &Tunnel{
		Header: Header{Stamp: 1790000000000 << 16, Origin: "director-1", Format: Format},
		ID:     "site-0042", Service: "ipsec", Owner: "nms", Created: 1790000000000 << 16,
		Endpoints: []Endpoint{netip.MustParseAddrPort("203.0.113.5:0")},
		Subnets:   []netip.Prefix{netip.MustParsePrefix("100.64.40.32/28")},
		Bandwidth: 2000000, State: StateDown,
	}
}

func TestTypicalTunnelIsSmall(t *testing.T) {
	b, err := typicalTunnel().Encode()
	if err != nil {
		t.Fatal(err)
	}
	if len(b) >= 120 {
		t.Errorf("%d bytes, want under 120", len(b))
	}
}

func BenchmarkEncodeTunnel(b *testing.B) {
	tun := typicalTunnel()
	enc, err := tun.Encode()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := tun.Encode(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(enc)), "bytes/record")
}

func BenchmarkDecodeTunnel(b *testing.B) {
	enc, err := typicalTunnel().Encode()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeTunnel(enc); err != nil {
			b.Fatal(err)
		}
	}
}

func many(n int) []netip.Prefix {
	l := make([]netip.Prefix, n)
	for i := range l {
		l[i] = netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64, byte(i >> 8), byte(i)}), 32)
	}
	return l
}

// random makes any well-formed record.
type random struct{ *rand.Rand }

func (r random) text() string {
	const letters = "abcXYZ019-_.@ äß\x00\"\n世"
	runes := []rune(letters)
	var b strings.Builder
	for range r.IntN(20) {
		b.WriteRune(runes[r.IntN(len(runes))])
	}
	return b.String()
}

func (r random) addr() netip.Addr {
	if r.IntN(2) == 0 {
		return netip.AddrFrom4([4]byte{byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32())})
	}
	var b [16]byte
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return netip.AddrFrom16(b)
}

func (r random) prefix() netip.Prefix {
	a := r.addr()
	return netip.PrefixFrom(a, r.IntN(a.BitLen()+1))
}

func (r random) header() Header {
	return Header{Stamp: Stamp(r.Uint64()), Origin: r.text(), Epoch: r.Uint32(), Deleted: r.IntN(2) == 0, Format: Format}
}

func list[T any](r random, make func() T) []T {
	var l []T
	for range r.IntN(5) {
		l = append(l, make())
	}
	return l
}

func (r random) service() *Service {
	return &Service{r.header(), r.text(), uint16(r.Uint32()), list(r, r.addr),
		list(r, func() Match { return Match{Proto: uint8(r.Uint32()), Lo: uint16(r.Uint32()), Hi: uint16(r.Uint32())} }),
		Method(r.IntN(len(methodWords))), Unknown(r.IntN(len(unknownWords))), Policy(r.IntN(len(policyWords))), r.IntN(2) == 0, r.Uint32(), r.prefer()}
}

func (r random) prefer() map[netip.Addr][]string {
	out := map[netip.Addr][]string{}
	for range r.IntN(3) {
		out[r.addr()] = list(r, r.text)
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

func (r random) tenant() *Tenant {
	return &Tenant{r.header(), r.text(), uint16(r.Uint32()), list(r, r.prefix), list(r, r.addr), r.prefer()}
}

func (r random) realServer() *RealServer {
	rs := &RealServer{Header: r.header(), Name: r.text(), Host: r.text(), Zone: r.text(), Addrs: list(r, r.addr), Services: list(r, r.text),
		Weight: r.Uint32(), Capacity: r.Uint32(), Admin: Admin(r.IntN(len(adminWords))), VLANs: map[string]uint16{},
		Check: Check{Proto: uint8(r.Uint32()), Port: uint16(r.Uint32())}}
	if r.IntN(2) == 0 {
		rs.Drain = &Drain{Milli: r.Uint32(), By: Stamp(r.Uint64()), Started: Stamp(r.Uint64()), Of: r.Uint32()}
	}
	for range r.IntN(4) {
		rs.VLANs[r.text()] = uint16(r.Uint32())
	}
	return rs
}

func (r random) life() *Life {
	return &Life{r.header(), r.text(), r.Uint32(), Index(r.IntN(int(MaxIndex) + 1)), r.IntN(2) == 0, Stamp(r.Uint64()), r.text()}
}

func (r random) tunnel() *Tunnel {
	t := &Tunnel{Header: r.header(), ID: r.text(), Service: r.text(), Owner: r.text(), Created: Stamp(r.Uint64()),
		Endpoints: list(r, func() Endpoint { return netip.AddrPortFrom(r.addr(), uint16(r.Uint32())) }), Subnets: list(r, r.prefix),
		Bandwidth: r.Uint64(), Group: r.text(), Tenant: r.text(), State: State(r.IntN(len(stateWords))), Labels: map[string]string{},
		SeparateFrom: list(r, r.text), Generation: r.Uint64(), GenClosed: r.IntN(2) == 0}
	for range r.IntN(4) {
		t.Labels[r.text()] = r.text()
	}
	return t
}

func (r random) pin() *Pin {
	return &Pin{r.header(), GroupID(r.text()), Index(r.IntN(int(MaxIndex) + 1)), Index(r.IntN(int(MaxIndex) + 1)),
		Stamp(r.Uint64()), Why(r.IntN(int(WhyUnplaced) + 1)), r.text()}
}
