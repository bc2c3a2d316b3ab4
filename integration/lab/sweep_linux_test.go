package lab

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// childEnv makes the test binary build a lab, say its name, and wait to be killed.
const childEnv = "TUNNELDIRECTOR_LAB_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		l, err := New(context.Background(), Options{Sites: 1, RealServers: 1})
		if err == nil {
			err = l.Command(l.Director.Namespace, "/bin/sh", "-c", "setsid sleep 1000 & :").Run()
		}
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(l.Name())
		select {}
	}
	os.Exit(m.Run())
}

func TestSweep(t *testing.T) {
	t.Parallel()
	mine := newLab(t, Options{Sites: 1, RealServers: 1})
	child := exec.Command("/proc/self/exe")
	child.Env = append(os.Environ(), childEnv+"=1")
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	name := strings.TrimSpace(line)
	if err != nil || !strings.HasPrefix(name, "td-") {
		t.Fatalf("the child said %q: %v", line, err)
	}
	count := func(name string) int {
		t.Helper()
		found, err := filepath.Glob(filepath.Join(namespaces, name+"-*"))
		if err != nil {
			t.Fatal(err)
		}
		return len(found)
	}
	if err := Sweep(); err != nil {
		t.Fatal(err)
	}
	if got := count(name); got != 6 {
		t.Errorf("of a living process %d of 6 namespaces were left", got)
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := child.Wait(); err == nil {
		t.Error("the child ended well, though it was killed")
	}
	if err := Sweep(); err != nil {
		t.Fatal(err)
	}
	wantNothingOf(t, name)
	if got := count(mine.Name()); got != 6 {
		t.Errorf("of our own lab %d of 6 namespaces were left", got)
	}
}
