package vm

import (
	"fmt"
	"strings"
	"time"
)

// Report is what came out of a job whose guest did its work.
type Report struct {
	Release string        // of the guest's kernel
	Accel   string        // "kvm" or "tcg", which is emulation
	Boot    time.Duration // from the start of qemu to the guest's first word
	Wall    time.Duration // from the start of qemu to its end
	Suites  []Suite       // as the job's Tests
}

// Suite is what became of one Tests.
type Suite struct {
	Tests   Tests
	Results []Result      // in the order in which they ended, subtests before their parent
	Output  string        // what belongs to no test
	Problem string        // why the program did not end by itself; "": it did
	Code    int           // its exit code
	Wall    time.Duration // by the guest's clock
}

// Failed tells whether anything about the suite is not well, running no test at all included.
func (s Suite) Failed() bool {
	if s.Code != 0 || s.Problem != "" || len(s.Results) == 0 && s.Tests.Bench == "" {
		return true
	}
	for _, r := range s.Results {
		if r.Outcome == Fail {
			return true
		}
	}
	return false
}

// Outcome of a test.
type Outcome string

const (
	Pass Outcome = "pass"
	Fail Outcome = "fail"
	Skip Outcome = "skip"
)

// Result is one test or subtest.
type Result struct {
	Name    string
	Outcome Outcome
	Elapsed time.Duration
	Output  string
}

// GuestError says that a guest did not do its work, as opposed to tests that failed.
type GuestError struct {
	Why     string
	Console string // the end of what the kernel said
}

func (e *GuestError) Error() string {
	if console := strings.TrimSpace(e.Console); console != "" {
		return fmt.Sprintf("%s; the end of the guest's console:\n%s", e.Why, console)
	}
	return e.Why + "; the guest's console is empty"
}
