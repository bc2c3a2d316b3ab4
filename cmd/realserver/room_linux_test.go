package main

import (
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"tunneldirector/cmd/console"
	"tunneldirector/realserver/terminator"
)

// TestRevertLowersRoom: also of a real server that has another name by now, and not while a daemon would raise it again.
func TestRevertLowersRoom(t *testing.T) {
	g := newRig(t)
	text, err := os.ReadFile(g.file)
	g.check(err)
	g.write("realserver.yaml", strings.Replace(string(text), "    vips:", "    room: {receive_buffer: 1MiB}\n    vips:", 1), 0o600)
	cfg, err := readBy(Parse, g.file)
	g.check(err)
	var c *net.UDPConn
	g.host.Do(func() {
		c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:4500")))
	})
	g.check(err)
	t.Cleanup(func() { c.Close() })
	buffer := func() (n int) {
		raw, err := c.SyscallConn()
		g.check(err)
		g.check(raw.Control(func(fd uintptr) { n, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF) }))
		g.check(err)
		return n
	}
	was := buffer()
	g.check(os.MkdirAll(cfg.StateDir, 0o700))
	raised := newGauge(cfg, &cfg.RealServers[0], slog.New(slog.DiscardHandler))
	raised.raise(t.Context(), terminator.Work{Processes: []int{os.Getpid()}, Sockets: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:4500")}})
	if buffer() != 2<<20 {
		t.Fatalf("%d bytes, were %d", buffer(), was)
	}
	stop := g.start()
	until(t, console.ExitOK, "agent of host", "status", "--socket", g.dir+"/agent.sock")
	g.run("revert").Exits(console.ExitFailed).Tells("would raise the room of sockets and devices again; stop it first")
	stop()
	g.write("realserver.yaml", strings.Replace(string(text), "name: rs1", "name: renamed", 1), 0o600)
	g.run("revert").Exits(console.ExitOK, "receive buffer of socket 127.0.0.1:4500")
	if buffer() != was {
		t.Errorf("%d bytes, were %d", buffer(), was)
	}
	if left, err := filepath.Glob(cfg.StateDir + "/room-*"); err != nil || len(left) > 0 {
		t.Errorf("left: %q, %v", left, err)
	}
}

// TestRoomIsOnDiskFirst: where what was cannot be kept, nothing is raised.
func TestRoomIsOnDiskFirst(t *testing.T) {
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	dir := filepath.Join(t.TempDir(), "none")
	g := newGauge(Config{StateDir: dir}, &RealServer{Name: "rs1", Room: Room{ReceiveBuffer: 1 << 20}}, slog.New(slog.DiscardHandler))
	g.raise(t.Context(), terminator.Work{Processes: []int{os.Getpid()}, Sockets: []netip.AddrPort{c.LocalAddr().(*net.UDPAddr).AddrPort()}})
	if !strings.Contains(g.told, dir) {
		t.Errorf("it says %q", g.told)
	}
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	_ = raw.Control(func(fd uintptr) { // it is open
		if n, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF); err != nil || n >= 2<<20 {
			t.Errorf("%d bytes, %v", n, err)
		}
	})
}
