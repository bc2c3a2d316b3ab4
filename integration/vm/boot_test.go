package vm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"tunneldirector/integration/vm/wire"
)

// actAs is the variable by which this program stands in for qemu and acts a guest.
const actAs = "TUNNELDIRECTOR_ACT_AS_GUEST"

func TestMain(m *testing.M) {
	switch guest := os.Getenv(actAs); guest {
	case "":
	case "keeper": // boots a guest that hangs
		_, err := boot(context.Background(), actor("hang"), Job{Tests: []Tests{{Package: "./a"}}}.withDefaults())
		fmt.Println(err)
		os.Exit(1)
	default:
		act(guest)
		return
	}
	os.Exit(m.Run())
}

// guests are what a guest may do, by events and on the console.
var guests = map[string]func(send func(wire.Event)){
	"well": func(send func(wire.Event)) {
		send(wire.Event{Kind: wire.Booted, Release: "6.1"})
		send(wire.Event{Kind: wire.Start, Uptime: 2})
		send(wire.Event{Kind: wire.Output, Data: []byte("\x16=== RUN   TestA\n    a_test.go:1: hel")})
		send(wire.Event{Kind: wire.Output, Data: []byte("lo\n\x16--- PASS: TestA (0.25s)\n\x16=== RUN   TestB\n\x16--- FAIL: TestB (1.00s)\n\x16=== RUN   TestC\n\x16--- SKIP: TestC (0.00s)\n\x16FAIL\n")})
		send(wire.Event{Kind: wire.Exit, Code: 1, Uptime: 5})
		send(wire.Event{Kind: wire.Start, Program: 1, Uptime: 5})
		send(wire.Event{Kind: wire.Output, Program: 1, Data: []byte("\x16=== RUN   TestD\n\x16--- PASS: TestD (0.00s)\n\x16PASS\n")})
		send(wire.Event{Kind: wire.Exit, Program: 1, Uptime: 6})
		send(wire.Event{Kind: wire.Done})
	},
	"panic": func(send func(wire.Event)) {
		send(wire.Event{Kind: wire.Booted})
		send(wire.Event{Kind: wire.Start})
		send(wire.Event{Kind: wire.Output, Data: []byte("\x16=== RUN   TestA\n")})
		fmt.Print("[    3.1] Kernel panic - not syncing: sysrq triggered crash\r\n")
	},
	"memory":  func(func(wire.Event)) { fmt.Print("[    3.1] Out of memory: Killed process 70 (x.test)\r\n") },
	"failed":  func(send func(wire.Event)) { send(wire.Event{Kind: wire.Failed, Problem: "no job"}) },
	"mute":    func(func(wire.Event)) {},
	"nothing": func(func(wire.Event)) { fmt.Print("qemu: no such machine\n"); os.Exit(1) },
	"hang":    func(func(wire.Event)) { time.Sleep(time.Hour) },
	"order":   func(send func(wire.Event)) { send(wire.Event{Kind: wire.Start, Program: 1}) },
	"unasked": func(send func(wire.Event)) { send(wire.Event{Kind: wire.Output}) },
}

func act(guest string) {
	encoder := json.NewEncoder(os.NewFile(3, wire.EventPort))
	guests[guest](func(e wire.Event) {
		if err := encoder.Encode(e); err != nil {
			os.Exit(3)
		}
	})
}

// actor is a machine that is a guest of that name.
func actor(guest string) machine {
	return machine{accel: emulation, qemu: func(ctx context.Context, args ...string) *exec.Cmd {
		cmd := exec.CommandContext(ctx, os.Args[0], args...)
		cmd.Env = append(os.Environ(), actAs+"="+guest)
		return cmd
	}}
}

// bootActor boots it.
func bootActor(ctx context.Context, t *testing.T, guest string) (Report, error) {
	t.Helper()
	return boot(ctx, actor(guest), Job{Out: t.TempDir(), Tests: []Tests{{Package: "./a"}, {Package: "./b"}}}.withDefaults())
}

func TestReport(t *testing.T) {
	got, err := bootActor(t.Context(), t, "well")
	if err != nil {
		t.Fatal(err)
	}
	want := Report{Release: "6.1", Accel: "tcg", Suites: []Suite{
		{Tests: Tests{Package: "./a"}, Code: 1, Wall: 3 * time.Second, Output: "FAIL\n", Results: []Result{
			{Name: "TestA", Outcome: Pass, Elapsed: 250 * time.Millisecond, Output: "=== RUN   TestA\n    a_test.go:1: hello\n--- PASS: TestA (0.25s)\n"},
			{Name: "TestB", Outcome: Fail, Elapsed: time.Second, Output: "=== RUN   TestB\n--- FAIL: TestB (1.00s)\n"},
			{Name: "TestC", Outcome: Skip, Output: "=== RUN   TestC\n--- SKIP: TestC (0.00s)\n"},
		}},
		{Tests: Tests{Package: "./b"}, Wall: time.Second, Output: "PASS\n", Results: []Result{
			{Name: "TestD", Outcome: Pass, Output: "=== RUN   TestD\n--- PASS: TestD (0.00s)\n"},
		}},
	}}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Report{}, "Boot", "Wall")); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
	if got.Boot <= 0 || got.Wall < got.Boot {
		t.Errorf("up after %s, off after %s", got.Boot, got.Wall)
	}
	if !got.Suites[0].Failed() || got.Suites[1].Failed() {
		t.Error("the first suite failed, the second did not")
	}
}

// TestGuestIsLost: a guest that did not do its work is no failing test, and the error says what became of it.
func TestGuestIsLost(t *testing.T) {
	for guest, why := range map[string]string{
		"panic":   "the guest's kernel gave up while it ran the tests of ./a: Kernel panic - not syncing: sysrq triggered crash",
		"memory":  "the guest's kernel gave up while it was booting: Out of memory: Killed process 70 (x.test)",
		"failed":  "the guest failed while it was booting: no job",
		"mute":    "the guest ended while it was booting",
		"nothing": "the guest ended while it was booting: exit status 1",
		"order":   "the guest ended while it was booting: the guest starts program 1 out of order",
		"unasked": "the guest ended while it was booting: the guest sends output of program 0, which does not run",
	} {
		t.Run(guest, func(t *testing.T) {
			report, err := bootActor(t.Context(), t, guest)
			lost, ok := errors.AsType[*GuestError](err)
			if !ok || lost.Why != why {
				t.Fatalf("got %v, want %s", err, why)
			}
			if guest == "panic" && (len(report.Suites) != 1 || len(report.Suites[0].Results) != 1 || report.Suites[0].Results[0].Outcome != Fail || !strings.Contains(lost.Console, "sysrq")) {
				t.Errorf("the report of what ran is %+v, the console %q", report, lost.Console)
			}
		})
	}
}

// TestGuestHangs: who waits can stop waiting, and the machine is gone then.
func TestGuestHangs(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(50*time.Millisecond, func() { cancel(errors.New("enough")) })
	_, err := bootActor(ctx, t, "hang")
	lost, ok := errors.AsType[*GuestError](err)
	if want := "the guest was stopped while it was booting: enough"; !ok || lost.Why != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestLastOf(t *testing.T) {
	for _, c := range []struct {
		text string
		most int
		want string
	}{{"a\nb\n", 10, "a\nb\n"}, {"first\nsecond\n", 9, "second\n"}, {"", 3, ""}} {
		if got := lastOf(c.text, c.most); got != c.want {
			t.Errorf("the last %d of %q are %q, want %q", c.most, c.text, got, c.want)
		}
	}
	tail := tail{most: 4}
	for _, s := range []string{"abc", "def", "ghijkl"} {
		if _, err := tail.Write([]byte(s)); err != nil {
			t.Fatal(err)
		}
	}
	if tail.String() != "ijkl" {
		t.Errorf("tail is %q", tail.String())
	}
}
