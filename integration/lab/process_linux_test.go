package lab

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tunneldirector/integration/spaces"
)

func TestProcessLivesOnItsMachine(t *testing.T) {
	t.Parallel()
	l := newLab(t, Options{Sites: 1, RealServers: 1})
	sh := func(script string) string {
		t.Helper()
		var out, faults bytes.Buffer
		p := l.Command(l.Director.Namespace, "/bin/sh", "-c", script)
		p.Cmd.Stdout, p.Cmd.Stderr = &out, &faults
		if err := p.Run(); err != nil {
			t.Fatalf("%s: %v\n%s", script, err, faults.String())
		}
		return out.String()
	}
	got := strings.Fields(sh("cd /sys/class/net && ls -d inner rs sites lo"))
	slices.Sort(got)
	if diff := cmp.Diff([]string{"inner", "lo", "rs", "sites"}, got); diff != "" {
		t.Errorf("interfaces in /sys (-want +got):\n%s", diff)
	}
	if got := sh("ls -A /run /sys/fs/bpf && echo kept >/run/file && mkdir /sys/fs/bpf/maps"); strings.Contains(got, "file") {
		t.Errorf("a fresh machine holds files:\n%s", got)
	}
	if got := sh("cat /run/file; ls -d /sys/fs/bpf/maps"); got != "kept\n/sys/fs/bpf/maps\n" {
		t.Errorf("the next process sees %q, want the file and the directory", got)
	}
	if _, err := os.Stat(filepath.Join(l.Director.RunDir(), "file")); err != nil {
		t.Errorf("from outside: %v", err)
	}
	if _, err := os.Stat("/sys/fs/bpf/maps"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the machine's BPF file system is the world's: %v", err)
	}
	if err := l.Command(l.Director.Namespace, "/nonexistent").Run(); err == nil {
		t.Error("started what there is not")
	}
}

func TestStop(t *testing.T) {
	t.Parallel()
	l := newLab(t, Options{Sites: 1, RealServers: 1})
	for _, tt := range []struct {
		name, script string
		fails        bool
	}{
		{"obeys", "trap 'exit 0' TERM; echo ready; while :; do sleep 0.01; done", false},
		{"does not", "trap '' TERM; echo ready; while :; do sleep 0.01; done", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := l.Command(l.Target.Namespace, "/bin/sh", "-c", tt.script)
			out, err := p.Cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := p.Start(); err != nil {
				t.Fatal(err)
			}
			if _, err := out.Read(make([]byte, 10)); err != nil {
				t.Fatal(err)
			}
			if err := p.Stop(syscall.SIGTERM, 300*time.Millisecond); (err != nil) != tt.fails {
				t.Errorf("Stop: got %v, want an error: %t", err, tt.fails)
			}
		})
	}
}

func TestNothingIsLeft(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	for _, tt := range []struct {
		name string
		end  func(*Lab) error
	}{
		{"by Close", func(l *Lab) error { return errors.Join(l.Close(), l.Close()) }},
		{"by the context", func(l *Lab) error { cancel(); <-l.Done(); return nil }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			spaces.Root(t)
			l, err := New(ctx, Options{Sites: 1, RealServers: 1})
			if err != nil {
				t.Fatal(err)
			}
			p := l.Command(l.Director.Namespace, "/bin/sh", "-c", "setsid sleep 1000 & echo; wait")
			out, err := p.Cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := p.Start(); err != nil {
				t.Fatal(err)
			}
			if _, err := out.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			if err := tt.end(l); err != nil {
				t.Fatal(err)
			}
			select {
			case <-p.Done():
			default:
				t.Error("the process lives on")
			}
			wantNothingOf(t, l.Name())
		})
	}
}

// wantNothingOf looks for namespaces, files, mounts and processes of a lab.
func wantNothingOf(t *testing.T, name string) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(namespaces, name+"-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	if _, err := os.Stat(filepath.Join(Dir, name)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory is left: %v", err)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil || strings.Contains(string(mounts), name+"/") {
		t.Errorf("mounts are left: %v", err)
	}
}
