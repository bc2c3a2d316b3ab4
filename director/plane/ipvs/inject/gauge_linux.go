package inject

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/vishvananda/netlink/nl"
)

// A gauge reads the state of the daemon's socket from /proc/net/udp. The file is kept open: it shows the network namespace
// of the thread that opened it.
type gauge struct {
	file  *os.File
	local string // the socket's address, as the file writes it
	inode string // of the daemon's socket, among all with this address
	text  []byte
}

// A level is what a gauge shows.
type level struct {
	queued int    // bytes of the messages that the daemon has not taken yet, as the kernel counts them
	drops  uint64 // messages that the queue had no room for, since the daemon started
}

var errNoDaemon = errors.New("the kernel's daemon is gone: was it stopped by hand? open the link again")

func openGauge(o Options) (*gauge, error) {
	f, err := os.Open("/proc/thread-self/net/udp")
	if err != nil {
		return nil, err
	}
	group := o.Group.As4()
	return &gauge{file: f, local: fmt.Sprintf("%08X:%04X", nl.NativeEndian().Uint32(group[:]), o.Port)}, nil
}

// sockets calls f with the fields of each socket at the group's address.
func (g *gauge) sockets(f func(fields [][]byte)) error {
	if _, err := g.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	b := bytes.NewBuffer(g.text[:0])
	if _, err := b.ReadFrom(g.file); err != nil {
		return err
	}
	g.text = b.Bytes()
	for line := range bytes.Lines(g.text) {
		if fields := bytes.Fields(line); len(fields) >= 13 && string(fields[1]) == g.local {
			f(fields)
		}
	}
	return nil
}

// inodes are those of root's sockets at the group's address. The daemon's is one that was not there before.
func (g *gauge) inodes() (map[string]bool, error) {
	found := map[string]bool{}
	err := g.sockets(func(fields [][]byte) {
		if string(fields[7]) == "0" {
			found[string(fields[9])] = true
		}
	})
	return found, err
}

// find looks for the daemon's socket.
func (g *gauge) find(before map[string]bool) error {
	now, err := g.inodes()
	if err != nil {
		return err
	}
	for inode := range now {
		if before[inode] {
			continue
		}
		if g.inode != "" {
			return fmt.Errorf("there are two new sockets at %s", g.local)
		}
		g.inode = inode
	}
	if g.inode == "" {
		return fmt.Errorf("there is no socket at %s", g.local)
	}
	return nil
}

func (g *gauge) read() (l level, err error) {
	found := false
	err = g.sockets(func(fields [][]byte) {
		if string(fields[9]) != g.inode {
			return
		}
		found = true
		var bad error
		if l, bad = parseLevel(fields); bad != nil {
			err = errors.Join(err, bad)
		}
	})
	switch {
	case err != nil:
		return l, fmt.Errorf("read the queue of the kernel's daemon: %w", err)
	case !found:
		return l, errNoDaemon
	}
	return l, nil
}

func parseLevel(fields [][]byte) (l level, err error) {
	_, queued, _ := bytes.Cut(fields[4], []byte(":"))
	n, err := strconv.ParseUint(string(queued), 16, 32)
	if err != nil {
		return l, err
	}
	l.queued = int(n)
	l.drops, err = strconv.ParseUint(string(fields[12]), 10, 64)
	return l, err
}
