package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"

	"tunneldirector/integration/lab"
)

// namespaces is where named network namespaces are.
const namespaces = "/run/netns"

// A machine is what the demo must leave as it was: a set of sentences.
type machine map[string]bool

// look lists the host's links, named network namespaces, what labs keep, BPF file systems and packet filter tables.
// What other living labs own is left out.
func look() (machine, error) {
	m := machine{}
	links, err := netlink.LinkList()
	for _, l := range links {
		m.add("link", l.Attrs().Name)
	}
	for kind, dir := range map[string]string{"network namespace": namespaces, "lab": lab.Dir} {
		entries, rerr := os.ReadDir(dir)
		if errors.Is(rerr, os.ErrNotExist) {
			continue
		}
		err = errors.Join(err, rerr)
		m.add("directory", dir)
		for _, e := range entries {
			m.add(kind, e.Name())
		}
	}
	mounts, rerr := os.ReadFile("/proc/self/mounts")
	err = errors.Join(err, rerr)
	for _, line := range strings.Split(string(mounts), "\n") {
		if f := strings.Fields(line); len(f) > 2 && f[2] == "bpf" {
			m.add("BPF file system", strings.TrimPrefix(f[1], lab.Dir+"/"))
		}
	}
	conn, rerr := nftables.New()
	err = errors.Join(err, rerr)
	if rerr == nil {
		tables, rerr := conn.ListTables()
		err = errors.Join(err, rerr)
		for _, t := range tables {
			m.add("packet filter table", fmt.Sprintf("%d %s", t.Family, t.Name))
		}
	}
	if err != nil {
		return nil, fmt.Errorf("look at this machine: %w", err)
	}
	return m, nil
}

func (m machine) add(kind, name string) {
	if strings.HasPrefix(name, "td-") && !strings.HasPrefix(name, fmt.Sprintf("td-%d-", os.Getpid())) {
		return // another lab's
	}
	m[kind+" "+name] = true
}

// changes are the differences to before, in sentences.
func (m machine) changes(before machine) (list []string) {
	for s := range m {
		if !before[s] {
			list = append(list, s+" is new")
		}
	}
	for s := range before {
		if !m[s] {
			list = append(list, s+" is gone")
		}
	}
	slices.Sort(list)
	return list
}

// unchanged waits, for the kernel frees namespaces at its leisure, until the machine is as it was.
func unchanged(before machine) error {
	deadline := time.Now().Add(5 * time.Second)
	for {
		tidy(before)
		now, err := look()
		if err != nil {
			return err
		}
		list := now.changes(before)
		if len(list) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("this machine is not as it was: %s", strings.Join(list, ", "))
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// tidy removes directories that were not there, if nobody uses them.
func tidy(before machine) {
	for _, dir := range []string{lab.Dir, namespaces} {
		if !before["directory "+dir] {
			_ = os.Remove(filepath.Clean(dir)) // not empty: somebody else's by now
		}
	}
}
