package vm

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestGuestEndsWithUs: a guest is gone when the process that runs it is killed.
func TestGuestEndsWithUs(t *testing.T) {
	keeper := exec.Command(os.Args[0])
	keeper.Env = append(os.Environ(), actAs+"=keeper")
	if err := keeper.Start(); err != nil {
		t.Fatal(err)
	}
	guest := ""
	within(t, "a guest runs", func() bool {
		// The kernel lists the children of each thread of its own.
		out, err := exec.Command("sh", "-c", fmt.Sprintf("cat /proc/%d/task/*/children", keeper.Process.Pid)).Output()
		guest = strings.TrimSpace(string(out))
		return err == nil && guest != ""
	})
	if err := keeper.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = keeper.Wait() // it was killed
	within(t, "the guest is gone", func() bool {
		b, err := os.ReadFile("/proc/" + guest + "/stat")
		return err != nil || strings.Contains(string(b), ") Z ") // dead, and nobody has asked yet
	})
}

func within(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}
