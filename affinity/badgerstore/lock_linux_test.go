package badgerstore

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestInUse(t *testing.T) {
	dir := t.TempDir()
	c := startChild(t, "hold", dir, nil)
	c.expect(t, "open")
	_, err := Open(t.Context(), Options{Dir: dir})
	if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), fmt.Sprint(c.Process.Pid)) {
		t.Errorf("error %v, want one of use that names process %d", err, c.Process.Pid)
	}
	c.end(t)
	s := openTest(t, dir)
	if _, err := Open(t.Context(), Options{Dir: dir}); !errors.Is(err, ErrInUse) {
		t.Errorf("error %v, want one of use by this process", err)
	}
	commit(t, s, 1, rec('t', "a", "still works"))
	closeTest(t, s)
}

func TestPermissions(t *testing.T) {
	dir := t.TempDir()
	closeTest(t, openTest(t, dir))
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	c := startChild(t, "open", dir, asNobody(t))
	if l := c.expect(t, "refused:"); !strings.Contains(l, "permission denied") || !strings.Contains(l, "make the directory belong to") {
		t.Errorf("refused with %q, want the remedy", l)
	}
	c.end(t)
}

// asNobody lets a child run without rights. Only root needs that.
func asNobody(t *testing.T) func(*exec.Cmd) {
	if os.Geteuid() != 0 {
		return nil
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "badgerstore") // t.TempDir is for its owner alone
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "child")
	if err := errors.Join(os.Chmod(dir, 0o755), copyFile(path, exe)); err != nil {
		t.Fatal(err)
	}
	return func(c *exec.Cmd) {
		c.Path, c.Dir = path, dir
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
