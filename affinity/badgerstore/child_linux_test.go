package badgerstore

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Some tests need another process: the test binary, told by the environment to be one of children.
const childEnv = "BADGERSTORE_CHILD"

var children = map[string]func(dir string) error{
	"commit": childCommit,
	"hold":   childHold,
	"open":   childOpen,
	"fill":   childFill,
}

func TestMain(m *testing.M) {
	name, dir, ok := strings.Cut(os.Getenv(childEnv), ":")
	if !ok {
		os.Exit(m.Run())
	}
	if err := children[name](dir); err != nil {
		fmt.Println("error:", err)
		os.Exit(3)
	}
}

// A child is a process that a test talks to, line by line.
type child struct {
	*exec.Cmd
	lines  *bufio.Scanner
	stdin  io.WriteCloser
	stderr bytes.Buffer
}

func startChild(t *testing.T, name, dir string, set func(*exec.Cmd)) *child {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := &child{Cmd: exec.Command(exe)}
	c.Env = append(os.Environ(), childEnv+"="+name+":"+dir)
	c.Cmd.Stderr = &c.stderr
	if set != nil {
		set(c.Cmd)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.lines = bufio.NewScanner(out)
	if c.stdin, err = c.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if c.ProcessState == nil {
			c.Process.Kill()
			c.Wait()
		}
	})
	return c
}

// line is the next line the child says.
func (c *child) line(t *testing.T) string {
	t.Helper()
	if !c.lines.Scan() {
		err := c.Wait()
		t.Fatalf("the child ended: %v\n%s", err, c.stderr.String())
	}
	return c.lines.Text()
}

func (c *child) expect(t *testing.T, prefix string) string {
	t.Helper()
	l := c.line(t)
	if !strings.HasPrefix(l, prefix) {
		t.Fatalf("the child says %q, want %q", l, prefix)
	}
	return l
}

// next lets the child go on.
func (c *child) next(t *testing.T) {
	t.Helper()
	if _, err := io.WriteString(c.stdin, "\n"); err != nil {
		t.Fatal(err)
	}
}

// end lets the child end, which it must do well.
func (c *child) end(t *testing.T) {
	t.Helper()
	c.stdin.Close()
	for c.lines.Scan() {
		t.Log("child:", c.lines.Text())
	}
	if err := c.Wait(); err != nil {
		t.Fatalf("the child ended: %v\n%s", err, c.stderr.String())
	}
}

// await is the child's side of next; an error is the end.
func await() error {
	var b [1]byte
	_, err := os.Stdin.Read(b[:])
	return err
}

// childHold keeps the store open until told.
func childHold(dir string) error {
	s, err := Open(context.Background(), Options{Dir: dir})
	if err != nil {
		return err
	}
	fmt.Println("open")
	_ = await()
	return s.Close()
}

// childOpen says how an opening went.
func childOpen(dir string) error {
	s, err := Open(context.Background(), Options{Dir: dir})
	if err != nil {
		fmt.Println("refused:", err)
		return nil
	}
	n := 0
	if err := s.Load(func(Record) error { n++; return nil }); err != nil {
		return err
	}
	err = s.Commit(bulk(1), s.Meta().Revision+1)
	if err != nil && !errors.Is(err, ErrFull) {
		return err
	}
	fmt.Println("open", n, err == nil)
	return s.Close()
}
