package exec

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"tunneldirector/director/agent"
	"tunneldirector/realserver/terminator"
)

var (
	_ terminator.Terminator = (*Terminator)(nil)
	_ terminator.Worker     = (*Terminator)(nil)
	_ terminator.Worker     = Carrier{}
	_ terminator.DataPath   = Carrier{}

	compare = cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{})
)

// sh is a program of a few words.
func sh(words string) []string { return []string{"/bin/sh", "-c", words} }

const (
	first  = `{"peer":"site1","endpoint":"203.0.113.5:655","local":"192.0.2.10","subnets":["100.64.1.0/24"],"since":1767225600,"last":1767225660.5,"rx":5,"tx":6}`
	second = `{"peer":"site2","endpoint":"2001:db8::5"}`
)

func TestTunnels(t *testing.T) {
	w := New(Options{Tunnels: sh(fmt.Sprintf("echo '%s'; echo '%s'", first, second))})
	got, err := w.Tunnels(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || time.Since(got[1].Since).Abs() > time.Minute {
		t.Fatalf("got %v", got)
	}
	seen := got[1].Since
	want := []agent.Tunnel{
		{
			Peer: "site1", Local: netip.MustParseAddr("192.0.2.10"), Endpoint: netip.MustParseAddrPort("203.0.113.5:655"),
			Subnets: []netip.Prefix{netip.MustParsePrefix("100.64.1.0/24")}, Since: time.Unix(1767225600, 0), Last: time.Unix(1767225660, 5e8), Rx: 5, Tx: 6,
		},
		{Peer: "site2", Endpoint: netip.AddrPortFrom(netip.MustParseAddr("2001:db8::5"), 0), Since: seen},
	}
	if diff := cmp.Diff(want, got, compare); diff != "" {
		t.Error(diff)
	}
	if got, err = w.Tunnels(t.Context()); err != nil || !got[1].Since.Equal(seen) {
		t.Errorf("seen since %v, first %v: %v", got[1].Since, seen, err)
	}
	if got, err := New(Options{Tunnels: sh(":")}).Tunnels(t.Context()); err != nil || len(got) != 0 {
		t.Errorf("none: %v, %v", got, err)
	}
}

// TestEnvironment: what a program is told, and that it is told nothing else.
func TestEnvironment(t *testing.T) {
	t.Setenv("SECRET", "of the agent")
	out := filepath.Join(t.TempDir(), "env")
	in := agent.Inherited{
		ID: "t1", Peer: "a $(touch /nowhere) 'b'", Local: netip.MustParseAddr("192.0.2.10"), Endpoint: netip.MustParseAddrPort("203.0.113.5:655"),
		Subnets: []netip.Prefix{netip.MustParsePrefix("100.64.1.0/24"), netip.MustParsePrefix("2001:db8:1::/64")}, Bandwidth: 7,
	}
	w := New(Options{Adopt: []string{"/bin/sh", "-c", `cat; env >"$1"`, "sh", out}})
	if err := w.Adopt(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for line := range strings.Lines(string(text)) {
		k, v, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		got[k] = v
	}
	delete(got, "PWD") // the shell's own
	delete(got, "_")
	delete(got, "SHLVL")
	want := map[string]string{
		"TD_ID": "t1", "TD_PEER": in.Peer, "TD_LOCAL": "192.0.2.10", "TD_ENDPOINT": "203.0.113.5:655", "TD_SUBNETS": "100.64.1.0/24 2001:db8:1::/64",
		"TD_BANDWIDTH": "7", "PATH": strings.TrimPrefix(path, "PATH="),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got := environment(agent.Inherited{Endpoint: netip.AddrPortFrom(netip.MustParseAddr("2001:db8::5"), 0)}); got[3] != "TD_ENDPOINT=2001:db8::5" || got[2] != "TD_LOCAL=" {
		t.Errorf("without a port: %q", got)
	}
}

func TestOutcomes(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(w terminator.Terminator) error
		o    Options
		want error  // nil: none of those that mean something
		says string // "": no error
	}{
		{"adopted", adopt, Options{Adopt: sh("exit 0")}, nil, ""},
		{"the site has to dial", adopt, Options{Adopt: sh("echo no key here >&2; echo more >&2; exit 75")}, terminator.ErrWait, `"no key here"`},
		{"adopt fails", adopt, Options{Adopt: sh("exit 3")}, nil, "exit status 3"},
		{"adopt, software gone", adopt, Options{Adopt: sh("exit 69")}, terminator.ErrGone, "69"},
		{"adopt, no program", adopt, Options{}, terminator.ErrWait, "no program"},
		{"released", release, Options{Release: sh("exit 0")}, nil, ""},
		{"75 means nothing to release", release, Options{Release: sh("exit 75")}, nil, "75"},
		{"release, no program", release, Options{}, terminator.ErrCannot, "no program"},
		{"accept", accept, Options{Accept: sh(`test "$TD_ACCEPT" = no`)}, nil, ""},
		{"accept, no program", accept, Options{}, terminator.ErrCannot, "no program"},
		{"tunnels, software gone", list, Options{Tunnels: sh("exit 69")}, terminator.ErrGone, "69"},
		{"tunnels fails after half", list, Options{Tunnels: sh("echo '" + first + "'; exit 1")}, nil, "exit status 1"},
		{"killed", list, Options{Tunnels: sh("kill -9 $$")}, nil, "killed"},
		{"no such program", list, Options{Tunnels: []string{"/nonexistent/program"}}, nil, "/nonexistent/program"},
		{"no program at all", list, Options{}, nil, "no program"},
		{"no such namespace", list, Options{Tunnels: sh(":"), Space: "td-nonexistent"}, nil, "td-nonexistent"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.do(New(tt.o))
			if (err != nil) != (tt.says != "") || err != nil && !strings.Contains(err.Error(), tt.says) {
				t.Fatalf("got %v, want it to say %q", err, tt.says)
			}
			for _, is := range []error{terminator.ErrWait, terminator.ErrCannot, terminator.ErrGone} {
				if errors.Is(err, is) != (tt.want == is) {
					t.Errorf("%v is %v: %t", err, is, tt.want != is)
				}
			}
		})
	}
}

func adopt(w terminator.Terminator) error {
	return w.Adopt(context.Background(), agent.Inherited{ID: "t1"})
}
func release(w terminator.Terminator) error {
	return w.Release(context.Background(), agent.Inherited{ID: "t1"})
}
func accept(w terminator.Terminator) error { return w.Accept(context.Background(), false) }
func list(w terminator.Terminator) error   { _, err := w.Tunnels(context.Background()); return err }

// TestDeadline: a program that hangs is killed, and what it started in its process group with it.
func TestDeadline(t *testing.T) {
	for _, tt := range []struct {
		name    string
		timeout time.Duration
		ctx     time.Duration
	}{{"its own", 2 * time.Second, time.Minute}, {"the caller's", time.Minute, 2 * time.Second}} {
		t.Run(tt.name, func(t *testing.T) {
			pids := filepath.Join(t.TempDir(), "pids")
			w := New(Options{Tunnels: []string{"/bin/sh", "-c", `sleep 100 & echo $! >"$1"; echo $$ >>"$1"; trap '' TERM; wait`, "sh", pids}, Timeout: tt.timeout})
			ctx, cancel := context.WithTimeout(t.Context(), tt.ctx)
			defer cancel()
			begin := time.Now()
			if _, err := w.Tunnels(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
			if took := time.Since(begin); took > 20*time.Second {
				t.Errorf("took %s", took)
			}
			text, err := os.ReadFile(pids)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range strings.Fields(string(text)) {
				pid, err := strconv.Atoi(p)
				if err != nil {
					t.Fatal(err)
				}
				if !ends(pid) {
					t.Errorf("process %d lives on", pid)
				}
			}
		})
	}
}

// ends waits for a process, or one that nobody has waited for yet, to be no more.
func ends(pid int) bool {
	for range 1000 {
		if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			return true
		}
		if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil && strings.Contains(string(b), ") Z ") {
			return true
		}
		time.Sleep(10 * time.Millisecond)
	}
	return false
}

func TestCancelled(t *testing.T) {
	begun := filepath.Join(t.TempDir(), "begun")
	w := New(Options{Tunnels: []string{"/bin/sh", "-c", `: >"$1"; exec sleep 100`, "sh", begun}})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for _, err := os.Stat(begun); err != nil; _, err = os.Stat(begun) {
			time.Sleep(time.Millisecond)
		}
		cancel()
	}()
	if _, err := w.Tunnels(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// TestHuge: output without end is given up, before the program's time is.
func TestHuge(t *testing.T) {
	w := New(Options{Tunnels: sh("exec cat /dev/zero"), Timeout: time.Minute})
	if _, err := w.Tunnels(t.Context()); !errors.Is(err, errMuch) {
		t.Errorf("got %v", err)
	}
	noisy := New(Options{Tunnels: sh("head -c 1000000 /dev/zero | tr '\\0' x >&2; exit 1")})
	if _, err := noisy.Tunnels(t.Context()); err == nil || len(err.Error()) > 2*agent.MaxText {
		t.Errorf("an error of %d bytes", len(fmt.Sprint(err)))
	}
}

// TestHeldOutput: a child in the background must not make the agent wait.
func TestHeldOutput(t *testing.T) {
	pid := filepath.Join(t.TempDir(), "pid")
	begin := time.Now()
	_, err := New(Options{Tunnels: []string{"/bin/sh", "-c", `sleep 20 & echo $! >"$1"`, "sh", pid}}).Tunnels(t.Context())
	if err == nil || !strings.Contains(err.Error(), "hold its output") || time.Since(begin) > 10*time.Second {
		t.Errorf("after %s: %v", time.Since(begin), err)
	}
	if text, err := os.ReadFile(pid); err == nil {
		if n, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
			_ = syscall.Kill(n, syscall.SIGKILL)
		}
	}
}

func TestCarries(t *testing.T) {
	if _, is := New(Options{}).(terminator.DataPath); is {
		t.Error("without a program it would tell what the kernel carries")
	}
	for words, want := range map[string]int{"echo 3": 3, "printf 0": 0, "echo many": -1, "echo -1": -1, ":": -1, "echo 3; exit 1": -1} {
		n, err := New(Options{Carries: sh(words)}).(terminator.DataPath).Carries(t.Context())
		if (err == nil) != (want >= 0) || err == nil && n != want {
			t.Errorf("%q: %d, %v", words, n, err)
		}
	}
}

func TestWork(t *testing.T) {
	if got, err := New(Options{}).(terminator.Worker).Work(t.Context()); err != nil || len(got.Processes) > 0 {
		t.Errorf("without a program: %+v, %v", got, err)
	}
	got, err := New(Options{Work: sh(`echo '{"processes":[4711],"sockets":["192.0.2.10:655"],"devices":["tinc0"],"threads":1}'`)}).(terminator.Worker).Work(t.Context())
	want := terminator.Work{Processes: []int{4711}, Sockets: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.10:655")}, Devices: []string{"tinc0"}, Threads: 1}
	if diff := cmp.Diff(want, got, compare); diff != "" || err != nil {
		t.Error(err, diff)
	}
	for _, bad := range []string{"", "{}{}", `{"processes":[0]}`, `{"threads":-1}`, `{"cores":2}`} {
		if _, err := parseWork([]byte(bad)); err == nil {
			t.Errorf("took %q", bad)
		}
	}
}
