package load

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// recorded is a file of /proc as a kernel gave it.
func recorded(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestParseCores(t *testing.T) {
	got, err := parseCores(recorded(t, "stat"))
	if err != nil {
		t.Fatal(err)
	}
	want := map[int]times{
		0: {total: 987053 + 28037 + 253568 + 1161927 + 3246 + 7 + 9653 + 2557, idle: 1161927 + 3246, interrupts: 7 + 9653, stolen: 2557},
		3: {total: 1013160 + 24307 + 267958 + 1115274 + 8251 + 0 + 14660 + 2603, idle: 1115274 + 8251, interrupts: 14660, stolen: 2603},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(times{})); diff != "" {
		t.Error(diff)
	}
}

func TestParseCoresRefuses(t *testing.T) {
	for _, in := range []string{"", "intr 5\n", "cpu  1 2 3 4 5 6 7 8\n", "cpux 1 2 3 4 5 6 7 8\n", "cpu0 1 2 3\n", "cpu0 1 2 3 4 5 6 7 -8\n",
		"cpu-1 1 2 3 4 5 6 7 8\n", "cpu0 1 2 3 4 5 6 7 18446744073709551615\n"} {
		if got, err := parseCores([]byte(in)); err == nil {
			t.Errorf("%q: %v, want an error", in, got)
		}
	}
}

func TestParseTask(t *testing.T) {
	got, err := parseTask(recorded(t, "task"))
	if err != nil {
		t.Fatal(err)
	}
	want := task{name: "fastd) S (x", ticks: 4711 + 289, start: 96504713, core: 3}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(task{})); diff != "" {
		t.Error(diff)
	}
	whole := string(recorded(t, "task"))
	for _, in := range []string{"", "4711", "4711 )(", "4711 (x)", "4711 (x) R 1 2 3", strings.Replace(whole, "4711 289", "-1 289", 1), strings.Replace(whole, "96504713", "soon", 1)} {
		if got, err := parseTask([]byte(in)); err == nil {
			t.Errorf("%q: %v, want an error", in, got)
		}
	}
}

func TestParseWait(t *testing.T) {
	if got, err := parseWait([]byte("641557 1234 2\n")); got != 1234 || err != nil {
		t.Errorf("%d, %v, want 1234", got, err)
	}
	for _, in := range []string{"", "1\n", "1 x 2\n"} {
		if _, err := parseWait([]byte(in)); err == nil {
			t.Errorf("%q: no error", in)
		}
	}
}

func FuzzParseCores(f *testing.F) {
	f.Add(recorded(f, "stat"))
	f.Fuzz(func(t *testing.T, b []byte) {
		cores, err := parseCores(b)
		if (err == nil) != (len(cores) > 0) {
			t.Fatalf("%d cores, %v", len(cores), err)
		}
		for _, c := range cores {
			if s := c.of(c.interrupts); s < 0 || s > 1 || c.busy() < 0 || c.busy() > 1 {
				t.Fatalf("%+v: interrupts %v, busy %v", c, s, c.busy())
			}
		}
	})
}

func FuzzParseTask(f *testing.F) {
	f.Add(recorded(f, "task"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, err := parseTask(b); err == nil && !strings.Contains(string(b), "("+got.name+")") {
			t.Fatalf("name %q of %q", got.name, b)
		}
		_, _ = parseWait(b)
	})
}
