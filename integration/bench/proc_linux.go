package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// listener is the process that listens on a unix socket.
func listener(socket string) (int, error) {
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Net: "unix", Name: socket})
	if err != nil {
		return 0, err
	}
	defer c.Close()
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	err = errors.Join(raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}), err)
	if err != nil {
		return 0, fmt.Errorf("ask who listens on %s: %w", socket, err)
	}
	return int(cred.Pid), nil
}

// fields reads a file of lines "name: number ...".
func fields(path string) (map[string]int, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	out := map[string]int{}
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		name, rest, _ := strings.Cut(sc.Text(), ":")
		if words := strings.Fields(rest); len(words) > 0 {
			if n, err := strconv.Atoi(words[0]); err == nil {
				out[name] = n
			}
		}
	}
	return out, sc.Err()
}

// A bpfMap is a kernel map that a process holds.
type bpfMap struct {
	memory int // bytes of kernel memory
	entry  int // bytes of key and value
}

// bpfMaps are the kernel maps that a process holds, by name.
func bpfMaps(pid int) (map[string]bpfMap, error) {
	dir := fmt.Sprintf("/proc/%d/fdinfo", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	out := map[string]bpfMap{}
	for _, e := range entries {
		info, err := fields(filepath.Join(dir, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // closed meanwhile
		}
		if err != nil {
			return nil, err
		}
		id, ok := info["map_id"]
		if !ok {
			continue
		}
		m, err := ebpf.NewMapFromID(ebpf.MapID(id))
		if err != nil {
			return nil, fmt.Errorf("look at map %d: %w", id, err)
		}
		about, err := m.Info()
		_ = m.Close()
		if err != nil {
			return nil, fmt.Errorf("look at map %d: %w", id, err)
		}
		out[about.Name] = bpfMap{info["memlock"], int(about.KeySize + about.ValueSize)}
	}
	return out, nil
}

// A journal is what a daemon logs, line by line, with the time at which each line came.
type journal struct {
	mu    sync.Mutex // guards what follows
	lines []line
	part  string // of a line without its end
}

type line struct {
	at   time.Time
	text string
}

func (j *journal) Write(p []byte) (int, error) {
	now := time.Now()
	j.mu.Lock()
	defer j.mu.Unlock()
	all := strings.Split(j.part+string(p), "\n")
	j.part = all[len(all)-1]
	for _, text := range all[:len(all)-1] {
		j.lines = append(j.lines, line{now, text})
	}
	return len(p), nil
}

// end is the number of lines so far.
func (j *journal) end() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.lines)
}

// find is the first line from number i on that has these words.
func (j *journal) find(i int, words string) (line, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, l := range j.lines[i:] {
		if strings.Contains(l.text, words) {
			return l, nil
		}
	}
	return line{}, fmt.Errorf("the director has not logged %q", words)
}

// tail is the last lines, for errors.
func (j *journal) tail() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var b strings.Builder
	for _, l := range j.lines[max(0, len(j.lines)-15):] {
		b.WriteString("\n  " + l.text)
	}
	return b.String()
}

// value is the number behind name= in a line of the log.
func (l line) value(name string) (float64, error) {
	_, rest, ok := strings.Cut(l.text, " "+name+"=")
	if !ok {
		return 0, fmt.Errorf("no %s in %q", name, l.text)
	}
	word, _, _ := strings.Cut(rest, " ")
	return strconv.ParseFloat(word, 64)
}
