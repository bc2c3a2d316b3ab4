package gossip

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"tunneldirector/cluster"
)

var byValue = cmpopts.EquateComparable(netip.AddrPort{})

func memberOf(name string, rank int, beats ...netip.AddrPort) cluster.Member {
	return cluster.Member{Name: name, Rank: rank, Role: cluster.RoleBoth, Stream: netip.MustParseAddrPort("192.0.2.1:7462"), Beats: beats}
}

func TestMeta(t *testing.T) {
	six := netip.MustParseAddrPort("[2001:db8:1111:2222:3333:4444:5555:6666]:7464")
	m := memberOf("a", 16, six, six, six, six, six, six, six, six)
	m.Leaving = true
	data, err := encodeMeta(m)
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodeMeta("a", data)
	if d := cmp.Diff(m, got, byValue); d != "" || err != nil {
		t.Errorf("%v %s", err, d)
	}
	many := make([]netip.AddrPort, 30)
	for i := range many {
		many[i] = six
	}
	if _, err := encodeMeta(memberOf("a", 1, many...)); err == nil || !strings.Contains(err.Error(), "gossip carries 512") {
		t.Errorf("too many addresses: error %v", err)
	}
}

func TestMetaOfOthers(t *testing.T) {
	body := func(fields map[int]any) []byte {
		data, err := cbor.Marshal(fields)
		if err != nil {
			t.Fatal(err)
		}
		return append([]byte{metaVersion}, data...)
	}
	if m, err := decodeMeta("a", body(map[int]any{1: 2, 2: "both", 77: "of a later release"})); err != nil || m.Rank != 2 {
		t.Errorf("a field of a later release is no harm: %+v, %v", m, err)
	}
	for want, data := range map[string][]byte{
		"no metadata":             nil,
		"newer than this":         {metaVersion + 1, 1, 2, 3},
		"no format 0":             {0},
		"cannot be read":          {metaVersion, 0xff},
		"rank 17 and role \"both": body(map[int]any{1: 17, 2: "both"}),
		"rank 1 and role \"spect": body(map[int]any{1: 1, 2: "spectator"}),
	} {
		if _, err := decodeMeta("a", data); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

func FuzzDecodeMeta(f *testing.F) {
	data, err := encodeMeta(memberOf("a", 3, netip.MustParseAddrPort("[2001:db8::1]:7464"), netip.MustParseAddrPort("192.0.2.9:7464")))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte{metaVersion, 0xa0})
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := decodeMeta("a", data)
		if err != nil {
			return
		}
		again, err := encodeMeta(m)
		if err != nil {
			return // longer than what is carried: not from there
		}
		got, err := decodeMeta("a", again)
		if d := cmp.Diff(m, got, byValue); d != "" || err != nil {
			t.Errorf("written and read again: %v %s", err, d)
		}
	})
}
