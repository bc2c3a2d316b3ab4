package vm

import (
	"errors"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestInVM runs the suites on Debian's kernel; each test there is a subtest here.
func TestInVM(t *testing.T) {
	soak := os.Getenv("SOAK") != ""
	if !soak { // what takes hours is not to be disturbed
		t.Parallel()
	}
	for _, b := range guestBoots {
		t.Run(b.name, func(t *testing.T) {
			if b.soak && !soak {
				t.Skip("for make soak")
			}
			if soak {
				b.tests = forSoak(b.tests)
			} else {
				t.Parallel()
			}
			report := bootOrSkip(t, Job{Kernel: b.kernel, Memory: b.memory, Director: b.director, Files: b.files, Tests: b.tests})
			t.Logf("kernel %s by %s: up after %.1f s, off after %.1f s", report.Release, report.Accel, report.Boot.Seconds(), report.Wall.Seconds())
		})
	}
}

// TestInVMOut: what a test leaves in /out comes to the host, and so does the console.
func TestInVMOut(t *testing.T) {
	t.Parallel()
	bootOrSkip(t, Job{Memory: 512, Tests: []Tests{{Package: "./integration/vm/smoke", Run: "^TestOut$", Timeout: time.Minute}}})
	if b, err := os.ReadFile(filepath.Join(outOf(t.Name()), "smoke", "left")); err != nil || string(b) != "for the host\n" {
		t.Errorf("the guest left %q, %v", b, err)
	}
	if b, err := os.ReadFile(filepath.Join(outOf(t.Name()), "console.log")); err != nil || !strings.Contains(string(b), "Power down") {
		t.Errorf("the console says %q, %v", b, err)
	}
}

// TestInVMGuestIsLost ends guests in ways that are no failure of a test.
func TestInVMGuestIsLost(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ end, why string }{
		{"panic", "Kernel panic - not syncing: sysrq triggered crash"},
		{"memory", "Out of memory"},
	} {
		t.Run(c.end, func(t *testing.T) {
			t.Parallel()
			job := Job{Memory: 512, Tests: []Tests{{Package: "./integration/vm/smoke", Run: "^TestEnd$", Env: []string{"END=" + c.end}, Timeout: time.Minute}}}
			_, err := Run(t.Context(), job)
			skipUnavailable(t, err)
			lost, ok := errors.AsType[*GuestError](err)
			if !ok || !strings.Contains(lost.Why, c.why) {
				t.Errorf("the guest ended by %v, want %s", err, c.why)
			}
		})
	}
}

// forSoak lets tests take their time, and tells them so.
func forSoak(tests []Tests) []Tests {
	tests = slices.Clone(tests)
	for i := range tests {
		tests[i].Env = append(slices.Clone(tests[i].Env), "SOAK=1")
		tests[i].Timeout = 10 * tests[i].timeout()
	}
	return tests
}

// bootOrSkip runs a job, showing its tests as subtests of t, and keeps what the guest left.
func bootOrSkip(t *testing.T, job Job) Report {
	t.Helper()
	job.Out = outOf(t.Name())
	if err := os.RemoveAll(job.Out); err != nil {
		t.Fatal(err)
	}
	job.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	report, err := Run(t.Context(), job)
	skipUnavailable(t, err)
	if still := stoodStill(job.Out); len(still) > 0 && slices.ContainsFunc(report.Suites, Suite.Failed) {
		t.Logf("the guest %s while its tests ran, and some failed: they run once more; the first time is left in %s", strings.Join(still, ", "), job.Out+"-disturbed")
		if err := errors.Join(os.RemoveAll(job.Out+"-disturbed"), os.Rename(job.Out, job.Out+"-disturbed")); err != nil {
			t.Fatal(err)
		}
		report, err = Run(t.Context(), job)
	}
	for _, s := range report.Suites {
		t.Run(path.Base(s.Tests.Package), func(t *testing.T) { show(t, s) })
	}
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// stoodStill are the times that a guest did not run at all, by its first process.
func stoodStill(out string) (times []string) {
	console, _ := os.ReadFile(filepath.Join(out, "console.log")) // none: nothing was seen
	for line := range strings.Lines(string(console)) {
		if _, words, ok := strings.Cut(line, "init: stood still"); ok {
			times = append(times, "stood still "+strings.TrimSpace(words))
		}
	}
	return times
}

// outOf is where a test's guest leaves what it leaves.
func outOf(test string) string {
	return filepath.Join("..", "..", "build", "vm", "out", path.Base(test))
}

// skipUnavailable skips where a guest cannot be had, which in CI it must.
func skipUnavailable(t *testing.T, err error) {
	t.Helper()
	if errors.Is(err, ErrUnavailable) && os.Getenv("CI") != "true" {
		t.Skip(err)
	}
}

// show makes a subtest of each test that ran in the guest: its output where it failed, and what it measured.
func show(t *testing.T, s Suite) {
	for _, r := range s.Results {
		t.Run(r.Name, func(t *testing.T) {
			t.Logf("%.2f s in the guest", r.Elapsed.Seconds())
			switch r.Outcome {
			case Fail:
				t.Error(r.Output)
			case Skip:
				t.Skip(r.Output)
			case Pass:
				for line := range strings.Lines(r.Output) {
					if _, measured, ok := strings.Cut(line, "MEASURED "); ok {
						t.Log("MEASURED", strings.TrimSpace(measured))
					}
				}
			}
		})
	}
	if s.Failed() && !t.Failed() {
		t.Errorf("exit code %d, %d tests ran %s\n%s", s.Code, len(s.Results), s.Problem, s.Output)
	}
}
