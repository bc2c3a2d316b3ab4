package vm

import (
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestBenchmarks: of those that end well nothing tells the end, and they did not fail.
func TestBenchmarks(t *testing.T) {
	const well = "=== RUN   BenchmarkA\nBenchmarkA\n=== RUN   BenchmarkA/s\nBenchmarkA/s\nBenchmarkA/s-2    \t      10\t        29.10 ns/op\n"
	for _, c := range []struct {
		name, says string
		want       map[string]Outcome
	}{
		{"well", well + "PASS\n", map[string]Outcome{"BenchmarkA": Pass, "BenchmarkA/s": Pass}},
		{"one failed", well + "=== RUN   BenchmarkB\nBenchmarkB\n--- FAIL: BenchmarkB\nFAIL\n", map[string]Outcome{"BenchmarkA": Pass, "BenchmarkA/s": Pass, "BenchmarkB": Fail}},
		{"one skipped", "=== RUN   BenchmarkB\nBenchmarkB\n--- SKIP: BenchmarkB\nPASS\n", map[string]Outcome{"BenchmarkB": Skip}},
		{"the program died", well + "=== RUN   BenchmarkB\nBenchmarkB\npanic: no\n", map[string]Outcome{"BenchmarkA": Fail, "BenchmarkA/s": Fail, "BenchmarkB": Fail}},
		{"a test has no end", "=== RUN   TestA\nPASS\n", map[string]Outcome{"TestA": Fail}},
	} {
		t.Run(c.name, func(t *testing.T) {
			x, err := convert(Tests{Package: "./a", Bench: "."}, io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(x, c.says); err != nil {
				t.Fatal(err)
			}
			if err := x.close(); err != nil {
				t.Fatal(err)
			}
			got := map[string]Outcome{}
			for _, r := range x.suite.Results {
				got[r.Name] = r.Outcome
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
