package fault

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"
)

// What a process of its own, which is killed later, is told by its environment.
const (
	ofLedger = "FAULT_TEST_LEDGER" // directory
	ofSpace  = "FAULT_TEST_SPACE"  // to cut off
	ofPID    = "FAULT_TEST_PID"    // to stop
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(ofLedger); dir != "" {
		if err := hold(dir); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// hold makes faults, says so, and waits for its end.
func hold(dir string) error {
	l, err := Open(context.Background(), dir, Known(), slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	go func() { _ = l.Run(context.Background()) }()
	pid, err := strconv.Atoi(os.Getenv(ofPID))
	if err != nil {
		return err
	}
	list, err := Find(pid)
	if err != nil {
		return err
	}
	for i, e := range []Effect{HostLoss(os.Getenv(ofSpace)), &Stopped{list}} {
		if err := l.Inject(context.Background(), Fault{ID: fmt.Sprint("f-", i), Kind: e.Name(), Target: "rs1", For: MaxFor, Effect: e}); err != nil {
			return err
		}
	}
	fmt.Println("in place")
	_, _ = io.Copy(io.Discard, os.Stdin)
	return nil
}

// The faults of a process that was killed are undone by the one that opens its ledger next, which it could not while the first one lived.
func TestDead(t *testing.T) {
	here, there := pair(t)
	victim, dir := child(t), t.TempDir()
	becomes(t, victim.Process.Pid, "S")
	holder := exec.Command(os.Args[0])
	holder.Env = append(os.Environ(), ofLedger+"="+dir, ofSpace+"="+path(here), ofPID+"="+strconv.Itoa(victim.Process.Pid))
	said, err := holder.StdoutPipe()
	check(t, err)
	in, err := holder.StdinPipe() // open as long as this test lives
	check(t, err)
	defer in.Close()
	check(t, holder.Start())
	dead := false
	defer func() {
		if !dead {
			_ = holder.Process.Kill()
			_ = holder.Wait()
		}
	}()
	if line, err := bufio.NewReader(said).ReadString('\n'); line != "in place\n" {
		t.Fatalf("it says %q, %v", line, err)
	}
	becomes(t, victim.Process.Pid, "T")
	want(t, "in place", here, there, false, across...)
	if _, err := Open(t.Context(), dir, Known(), slog.New(slog.DiscardHandler)); err == nil {
		t.Error("the ledger of one that lives is opened")
	}
	check(t, holder.Process.Kill())
	_ = holder.Wait()
	dead = true
	want(t, "its maker is dead", here, there, false, across...)
	from := time.Now()
	l, err := Open(t.Context(), dir, Known(), slog.New(slog.DiscardHandler))
	check(t, err)
	t.Logf("undone in %v", time.Since(from))
	if list := l.List(); len(list) > 0 {
		t.Errorf("left: %+v", list)
	}
	becomes(t, victim.Process.Pid, "S")
	want(t, "undone", here, there, true, across...)
	check(t, l.Close())
}
