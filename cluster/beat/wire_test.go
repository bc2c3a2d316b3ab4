package beat

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/go-cmp/cmp"

	"tunneldirector/cluster"
)

// keys is a ring that does not change.
type keys [][]byte

func (k keys) Keys() [][]byte { return k }

func key(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }

func hashes(n int) []cluster.Hash {
	var list []cluster.Hash
	for i := range n {
		list = append(list, cluster.Hash(0xffffffff-i))
	}
	return list
}

// largest is a beat with as much in it as there can be.
func largest() cluster.Beat {
	return fit(cluster.Beat{
		From: strings.Repeat("n", maxName), Start: 1<<63 - 1, Seq: 1<<64 - 1, Wall: time.UnixMilli(1 << 60), ReadyFor: 1<<63 - 1,
		Ready: true, Leaving: true, Hung: true, Sick: true, Assigns: true, Probes: true, Many: true, Full: true,
		Unreached: hashes(cluster.MaxHashes), Holds: hashes(cluster.MaxHashes), Revision: 1<<64 - 1, Root: 1<<64 - 1,
		Assigner: 1<<32 - 1, Records: 1<<64 - 1, Echo: cluster.Echo{Of: 1<<32 - 1, Start: 1<<63 - 1, Seq: 1<<64 - 1},
	})
}

func TestWire(t *testing.T) {
	for _, b := range []cluster.Beat{
		largest(),
		{From: "a", Wall: time.UnixMilli(-1)},
		{From: "b", Start: -5, Seq: 1, Wall: time.UnixMilli(1_700_000_000_123), Holds: hashes(1), Assigns: true},
		{From: "c", Wall: time.UnixMilli(0), ReadyFor: 61 * time.Second, Many: true, Probes: true},
		{From: "d", Wall: time.UnixMilli(0), Full: true},
		{From: "e", Wall: time.UnixMilli(0), Assigner: 7, Records: 8},
	} {
		plain, err := encode(b)
		if err != nil {
			t.Fatal(err)
		}
		got, err := decode(plain)
		if d := cmp.Diff(b, got); d != "" || err != nil {
			t.Errorf("%v %s", err, d)
		}
	}
}

func TestWireFitsADatagram(t *testing.T) {
	s := sealer{ring: keys{key(1)}}
	plain, err := encode(largest())
	if err != nil {
		t.Fatal(err)
	}
	datagram, err := s.seal(plain)
	if err != nil || len(datagram) >= MaxSize {
		t.Errorf("the largest heartbeat has %d bytes (%v)", len(datagram), err)
	}
	b := fit(cluster.Beat{Unreached: hashes(cluster.MaxHashes + 1), Holds: hashes(3)})
	if b.Unreached != nil || !b.Many || len(b.Holds) != 3 {
		t.Errorf("of lists of which one is too long it says %+v", b)
	}
}

func TestWireOfOthers(t *testing.T) {
	body, err := cbor.Marshal(map[int]any{1: "a", 2: 3, 3: 4, 99: "of a later release"})
	if err != nil {
		t.Fatal(err)
	}
	if b, err := decode(append([]byte{version}, body...)); err != nil || b.From != "a" || b.Seq != 4 {
		t.Errorf("a field of a later release is no harm: %+v, %v", b, err)
	}
	var newer newerError
	if _, err := decode(append([]byte{version + 1}, body...)); !errors.As(err, &newer) {
		t.Errorf("a newer format: error %v", err)
	}
	for name, data := range map[string][]byte{
		"nothing": {}, "format 0": append([]byte{0}, body...), "half": append([]byte{version}, body[:len(body)-2]...), "no name": {version, 0xa0},
	} {
		if _, err := decode(data); err == nil || errors.As(err, &newer) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func TestSealRotation(t *testing.T) {
	for _, tt := range []struct {
		name         string
		sends, hears keys
		opens        bool
	}{
		{"same", keys{key(1)}, keys{key(1)}, true},
		{"the new one is added there", keys{key(1)}, keys{key(1), key(2)}, true},
		{"the new one is used here", keys{key(2), key(1)}, keys{key(1), key(2)}, true},
		{"the old one is removed there", keys{key(2), key(1)}, keys{key(2)}, true},
		{"used before it was added", keys{key(2), key(1)}, keys{key(1)}, false},
		{"AES-128", keys{key(1)[:16]}, keys{key(2), key(1)[:16]}, true},
	} {
		from, to := sealer{ring: keys{key(9)}}, sealer{ring: keys{key(9)}}
		for _, s := range []*sealer{&from, &to} {
			if err := s.fresh(); err != nil { // with other keys than later
				t.Fatal(err)
			}
		}
		from.ring, to.ring = tt.sends, tt.hears
		datagram, err := from.seal([]byte("beat"))
		if err != nil {
			t.Fatal(err)
		}
		plain, err := to.open(datagram)
		if opened := err == nil && string(plain) == "beat"; opened != tt.opens {
			t.Errorf("%s: opened %t (%v)", tt.name, opened, err)
		}
		if !tt.opens && !errors.Is(err, errKey) {
			t.Errorf("%s: error %v", tt.name, err)
		}
	}
	empty := sealer{ring: keys{}}
	if _, err := empty.seal(nil); err == nil {
		t.Error("an empty keyring seals")
	}
}

func FuzzDecode(f *testing.F) {
	plain, err := encode(largest())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(plain)
	f.Add([]byte{version, 0xa1, 1, 0x61, 'a'})
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := decode(data)
		if err != nil {
			return
		}
		plain, err := encode(b)
		if err != nil {
			t.Fatal(err)
		}
		again, err := decode(plain)
		if d := cmp.Diff(b, again); d != "" || err != nil {
			t.Errorf("written and read again: %v %s", err, d)
		}
	})
}

func FuzzOpen(f *testing.F) {
	s := sealer{ring: keys{key(1)}}
	datagram, err := s.seal([]byte("beat"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(datagram)
	f.Add(datagram[:20])
	f.Fuzz(func(t *testing.T, data []byte) {
		// Each process that fuzzes has sealed this once.
		if plain, err := s.open(data); err == nil && string(plain) != "beat" {
			t.Errorf("what nobody sealed was opened: %q", plain)
		}
	})
}
