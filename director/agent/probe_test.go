package agent

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var nonce = Nonce{1, 2, 3, 15: 16}

func TestProbe(t *testing.T) {
	for _, name := range []string{"", "rs1", strings.Repeat("x", maxName)} {
		b := AppendProbe([]byte("before"), nonce, name)
		n, rs, err := ParseProbe(b[6:])
		if err != nil || n != nonce || rs != name || len(b) != 6+ProbeSize {
			t.Errorf("%q: %v %q %v in %d bytes", name, n, rs, err, len(b))
		}
	}
	long := strings.Repeat("x", maxName+1)
	if _, rs, err := ParseProbe(AppendProbe(nil, nonce, long)); err != nil || rs == long {
		t.Errorf("a name of %d bytes: %q %v", len(long), rs, err)
	}
}

func TestAnswer(t *testing.T) {
	for i, a := range answers() {
		b := a.Append([]byte("before"))
		got, err := ParseAnswer(b[6:])
		if d := cmp.Diff(a, got); d != "" || err != nil || len(b) != 6+ProbeSize {
			t.Errorf("answer %d: %v in %d bytes %s", i, err, len(b), d)
		}
	}
}

func answers() []Answer {
	return []Answer{
		{},
		{Nonce: nonce, Health: HealthWorking, Tunnels: 1<<32 - 1, RealServer: "rs1"},
		{Nonce: nonce, Health: HealthDead, Full: true, RealServer: strings.Repeat("x", maxName)},
		{Nonce: nonce, Health: HealthHeadless, Closed: true, RealServer: "rs1"},
		{Nonce: nonce, WrongWay: true, RealServer: "rs1"},
	}
}

func TestProbeGarbage(t *testing.T) {
	probe, answer := AppendProbe(nil, nonce, "rs1"), answers()[1].Append(nil)
	change := func(b []byte, at int, to byte) []byte { c := bytes.Clone(b); c[at] = to; return c }
	for name, b := range map[string][]byte{
		"empty": nil, "short": probe[:ProbeSize-1], "long": append(bytes.Clone(probe), 0), "an answer": answer, "zeros": make([]byte, ProbeSize),
		"another format": change(probe, 3, '2'), "name too long": change(probe, 20, maxName+1), "name and more": change(probe, 20, 2),
		"rest": change(probe, ProbeSize-1, 1), "no UTF-8": change(probe, 21, 0xff),
	} {
		if _, rs, err := ParseProbe(b); err == nil {
			t.Errorf("%s: a question for %q", name, rs)
		}
	}
	for name, b := range map[string][]byte{
		"empty": nil, "short": answer[:ProbeSize-1], "a question": probe, "zeros": make([]byte, ProbeSize), "health": change(answer, 20, byte(HealthDead)+1),
		"flags": change(answer, 21, 8), "name too long": change(answer, 26, maxName+1), "rest": change(answer, ProbeSize-1, 1), "no UTF-8": change(answer, 27, 0xff),
	} {
		if a, err := ParseAnswer(b); err == nil {
			t.Errorf("%s: %+v", name, a)
		}
	}
}

func FuzzParseProbe(f *testing.F) {
	f.Add(AppendProbe(nil, nonce, "rs1"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if n, rs, err := ParseProbe(b); err == nil && !bytes.Equal(AppendProbe(nil, n, rs), b) {
			t.Errorf("%x is not the question for %q", b, rs)
		}
	})
}

func FuzzParseAnswer(f *testing.F) {
	for _, a := range answers() {
		f.Add(a.Append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if a, err := ParseAnswer(b); err == nil && !bytes.Equal(a.Append(nil), b) {
			t.Errorf("%x is not the answer %+v", b, a)
		}
	})
}

func TestNames(t *testing.T) {
	var got []string
	for h := range Health(5) {
		got = append(got, h.String())
	}
	for k := range OrderKind(9) {
		got = append(got, k.String())
	}
	for o := range Outcome(7) {
		got = append(got, o.String())
	}
	want := strings.Fields("unknown working headless dead unknown none adopt release accept close forget inject undo undo none queued trying done waiting failed failed")
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}
