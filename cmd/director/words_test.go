package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tunneldirector/cmd/console"
)

func TestArrange(t *testing.T) {
	app := newApp(&console.Env{Getenv: func(string) string { return "" }})
	tests := []struct{ in, want string }{
		{"status", "status"},
		{"tunnel get a --json", "--json tunnel get a"},
		{"tunnel get --json=true a --socket /s", "--json=true --socket /s tunnel get a"},
		{"apply f --dry-run", "apply --dry-run f"},
		{"apply - --dry-run", "apply --dry-run -"},
		{"repin a --to rs1 --idle", "repin --to rs1 --idle a"},
		{"tunnel rm list -- -x", "tunnel rm -- list -x"},
		{"tunnel list --service", "tunnel list --service"},
		{"tunnel list --nope a", "tunnel list --nope a"},
		{"rs weight --socket /s a 1", "--socket /s rs weight a 1"},
		{"help tunnel add", "tunnel add --help"},
		{"", ""},
	}
	for _, tt := range tests {
		if got := strings.Join(arrange(app.Flags, app.Commands, strings.Fields(tt.in)), " "); got != tt.want {
			t.Errorf("%q becomes %q, want %q", tt.in, got, tt.want)
		}
	}
}

func TestUnits(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	tests := []struct{ got, want string }{
		{bits(0), ""}, {bits(2_000_000), "2 Mbit/s"}, {bits(1_500_000_000), "1.5 Gbit/s"}, {rtt(1500), "1.5ms"}, {rtt(0), ""},
		{moment(now, now.Add(-time.Minute)), "2026-01-02 03:03:05Z (1m ago)"}, {tunnelsOf(1000, 5000), "1,000/5,000"},
		{countersWords(map[string]uint64{"a": 1, "b": 2000, "c": 0, "d": 1}), "b 2,000, a 1, d 1"},
	}
	for _, tt := range tests {
		if tt.got != tt.want {
			t.Errorf("got %q, want %q", tt.got, tt.want)
		}
	}
	for s, want := range map[string]uint64{"0": 0, "2000000": 2e6, "2M": 2e6, "1.5G": 15e8, "2.5 Mbit/s": 25e5, "10k": 1e4, "18446744073709551615": 1<<64 - 1} {
		if got, err := parseBits(s); err != nil || got != want {
			t.Errorf("%s: %d, %v; want %d", s, got, err, want)
		}
	}
	for _, s := range []string{"", "M", "-1", "fast", "1X", "1e30G", "NaN", "InfM"} {
		if got, err := parseBits(s); err == nil {
			t.Errorf("%s was read as %d", s, got)
		}
	}
}

func TestCompletion(t *testing.T) {
	w := furnished(t)
	w.feed(sites(12), "tunnel", "import", "-").Exits(console.ExitOK)
	tests := []struct {
		words string // the last may be empty: a blank at the end
		want  []string
	}{
		{"real", []string{"realserver"}},
		{"tunnel ", []string{"list", "get", "add", "rm", "import", "export"}},
		{"tunnel im", []string{"import"}},
		{"apply f --dr", []string{"--dry-run"}},
		{"tunnel import --check --js", []string{"--json"}},
		{"tunnel import --format ", []string{"ndjson", "csv"}},
		{"completion ", []string{"bash", "zsh", "fish"}},
		{"trace --fragment l", []string{"later"}},
		{"events --kind mo", []string{"moved"}},
		{"seen --state ", []string{"right", "wrong-place", "unknown", "not-up"}},
		{"tunnel list --state u", []string{"up", "unsaid"}},
		{"seen --rs rs1", []string{"rs1"}},
		{"realserver show ", []string{"rs1", "rs2", "rs3"}},
		{"rs orders rs2", []string{"rs2"}},
		{"rs orders rs2 ", nil},
		{"realserver drain rs1 --dead", []string{"--deadline"}},
		{"realserver drain ", []string{"rs1", "rs2", "rs3"}},
		{"rs weight rs2 ", nil},
		{"repin site-00001 --to rs2", []string{"rs2"}},
		{"tunnel list --service i", []string{"ipsec"}},
		{"service rm ", []string{"ipsec"}},
		{"tenant rm d", []string{"default"}},
		{"tunnel get site-0001", []string{"site-00010", "site-00011"}},
		{"repin site-00007", []string{"site-00007"}},
		{"tunnel get site-00007 ", nil},
		{"nothing ", nil},
	}
	for _, tt := range tests {
		words := append([]string{"--socket", w.socket}, strings.Split(tt.words, " ")...)
		r := w.run(append([]string{"__complete", "--"}, words...)...).Exits(console.ExitOK)
		var got []string
		for line := range strings.Lines(r.Out) {
			word, _, _ := strings.Cut(line, "\t")
			got = append(got, word)
		}
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%q (-want +got):\n%s", tt.words, d)
		}
	}
	r := runIn(t.Context(), t, nil, nil, "__complete", "--", "--socket", "/nowhere/s", "realserver", "drain", "").Exits(console.ExitOK)
	if r.Out != "" || r.ErrOut != "" {
		t.Errorf("without a director: %q %q", r.Out, r.ErrOut)
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		w.run("completion", shell).Exits(console.ExitOK, "director", "__complete")
	}
	w.run("completion", "tcsh").Exits(console.ExitUsage)
}

// The codes that the help lists are those that there are.
func TestExitCodesAreDocumented(t *testing.T) {
	var listed []string
	for line := range strings.Lines(exitCodes) {
		listed = append(listed, strings.Fields(line)[0])
	}
	if want := strings.Fields("0 1 2 3 4 5 6 130"); !slices.Equal(listed, want) {
		t.Errorf("listed are %q, want %q", listed, want)
	}
}
