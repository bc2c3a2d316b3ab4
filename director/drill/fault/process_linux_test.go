package fault

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// child starts a process that does nothing.
func child(t *testing.T) *exec.Cmd {
	t.Helper()
	c := exec.Command("sleep", "120")
	check(t, c.Start())
	t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
	})
	return c
}

func found(t *testing.T, pids ...int) []Process {
	t.Helper()
	list, err := Find(pids...)
	if err != nil || len(list) == 0 {
		t.Fatalf("found %v of %v: %v", list, pids, err)
	}
	return list
}

// state is a process's, as the kernel says: T is stopped, S sleeps.
func state(t *testing.T, pid int) string {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	check(t, err)
	return strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))[0]
}

// becomes waits for a state.
func becomes(t *testing.T, pid int, want string) {
	t.Helper()
	for until := time.Now().Add(10 * time.Second); state(t, pid) != want; time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("process %d is %s, want %s", pid, state(t, pid), want)
		}
	}
}

func TestStopped(t *testing.T) {
	a, b := child(t), child(t)
	becomes(t, a.Process.Pid, "S")
	s := &Stopped{found(t, a.Process.Pid, b.Process.Pid)}
	other := s.Processes[1]
	other.Start++ // another one of the same number
	s.Processes[1] = other
	for range 2 {
		check(t, s.Do(t.Context(), "f", time.Second))
	}
	becomes(t, a.Process.Pid, "T")
	if is := state(t, b.Process.Pid); is == "T" {
		t.Error("a process of the same number is stopped")
	}
	for range 2 {
		check(t, s.Undo(t.Context(), "f"))
	}
	becomes(t, a.Process.Pid, "S")
	check(t, b.Process.Kill())
	_ = b.Wait()
	if err := (&Stopped{s.Processes[1:]}).Do(t.Context(), "f", time.Second); !errors.Is(err, errNone) {
		t.Errorf("none is there: %v", err)
	}
	old := s.Processes[0]
	old.Boot = "of another boot"
	if err := (&Stopped{[]Process{old}}).Do(t.Context(), "f", time.Second); !errors.Is(err, errNone) {
		t.Errorf("one of another boot: %v", err)
	}
	check(t, (&Stopped{[]Process{old}}).Undo(t.Context(), "f"))
}

func TestFind(t *testing.T) {
	if list, err := Find(1 << 30); err != nil || len(list) > 0 {
		t.Errorf("of one that is not there: %v, %v", list, err)
	}
	for _, pid := range []int{1, 0, -1} {
		if list, err := Find(pid); err == nil {
			t.Errorf("process %d is found: %v", pid, list)
		}
	}
}

func TestKilled(t *testing.T) {
	a := child(t)
	file := filepath.Join(t.TempDir(), "started")
	k := &Killed{Processes: found(t, a.Process.Pid), Start: []string{"touch", file}}
	check(t, k.Do(t.Context(), "f", time.Second))
	if err := a.Wait(); err == nil {
		t.Error("it ended well")
	}
	if err := k.Do(t.Context(), "f", time.Second); !errors.Is(err, errNone) {
		t.Errorf("killed twice: %v", err)
	}
	for range 2 {
		check(t, k.Undo(t.Context(), "f"))
		if _, err := os.Stat(file); err != nil {
			t.Error(err)
		}
	}
	check(t, (&Killed{}).Undo(t.Context(), "f"))
	for name, argv := range map[string][]string{"fails": {"false"}, "is not there": {"/nowhere/program"}} {
		if err := (&Killed{Start: argv}).Undo(t.Context(), "f"); err == nil || !strings.Contains(err.Error(), argv[0]) {
			t.Errorf("a start that %s: %v", name, err)
		}
	}
	short, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := (&Killed{Start: []string{"sh", "-c", "sleep 120 & echo $! >" + file + "; wait"}}).Undo(short, "f"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a start that does not end: %v", err)
	}
	text, err := os.ReadFile(file)
	check(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	check(t, err)
	for until := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err != nil || strings.Contains(string(stat), ") Z") {
			break // whoever is its parent now may let it be a zombie
		}
		if time.Now().After(until) {
			t.Fatal("what it started goes on")
		}
	}
}
