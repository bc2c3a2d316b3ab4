package lab

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestKillAndRestore(t *testing.T) {
	t.Parallel()
	l := newLab(t, Options{Sites: 3, RealServers: 2})
	d, _ := newStandin(t, l)
	rs1, rs2 := l.RealServers[0], l.RealServers[1]
	for _, s := range l.Sites {
		if err := d.Pin(s, rs1); err != nil {
			t.Fatal(err)
		}
	}
	ctx := within(t, 15*time.Second)
	target := l.Target.Inner.Addrs[0]
	ping := func(s *Site, n int) int {
		t.Helper()
		echoes, err := l.Ping(ctx, s.NS, s.Inside[0], target, 20*time.Millisecond, n)
		if err != nil {
			t.Fatal(err)
		}
		return n - CountLost(echoes)
	}
	if got := ping(l.Sites[0], 5); got != 5 {
		t.Fatalf("before the death %d of 5 echo requests were answered", got)
	}
	if err := l.KillRealServer(1); err != nil {
		t.Fatal(err)
	}
	counted := rs1.Counts(l.Sites[0])
	if got := ping(l.Sites[0], 5); got != 0 {
		t.Errorf("a dead real server answered %d of 5 echo requests", got)
	}
	if got := rs1.Counts(l.Sites[0]); got != counted {
		t.Errorf("a dead real server counted packets: %+v, then %+v", counted, got)
	}
	if _, err := rs1.Peer(l.Sites[0]); err == nil {
		t.Error("a dead real server's WireGuard answered")
	}
	// Site 2 has no tunnel that it would have to give up first.
	if err := d.Pin(l.Sites[1], rs2); err != nil {
		t.Fatal(err)
	}
	if got := ping(l.Sites[1], 5); got != 5 {
		t.Errorf("the other real server answered %d of 5 echo requests", got)
	}
	if err := l.Restore(1); err != nil {
		t.Fatal(err)
	}
	if err := l.Restore(1); err != nil {
		t.Fatalf("restore what lives: %v", err)
	}
	if err := l.establish(ctx, l.Sites[2]); err != nil {
		t.Errorf("after the return: %v", err)
	}
	if got := rs1.Counts(l.Sites[2]); got.InnerIn == 0 || got.Handshakes == 0 {
		t.Errorf("%s at the returned real server: %+v", l.Sites[2].Name, got)
	}
	if p, err := rs1.Peer(l.Sites[0]); err != nil || !p.LastHandshake.IsZero() {
		t.Errorf("the returned real server knows a tunnel of its last life: %+v, %v", p, err)
	}
	if err := l.KillRealServer(3); err == nil {
		t.Error("killed a real server that there is not")
	}
}

// TestHang: while WireGuard hangs nothing passes and nobody answers its configuration socket; afterwards all is as before, and what hangs
// can be ended.
func TestHang(t *testing.T) {
	t.Parallel()
	l := newLab(t, Options{Sites: 1, RealServers: 1})
	newStandin(t, l)
	site, rs := l.Sites[0], l.RealServers[0]
	ctx := within(t, 15*time.Second)
	ping := func() int {
		t.Helper()
		echoes, err := l.Ping(ctx, l.Target.Namespace, l.Target.Inner.Addrs[0], site.Inside[0], 20*time.Millisecond, 3)
		if err != nil {
			t.Fatal(err)
		}
		return 3 - CountLost(echoes)
	}
	asked := func() error {
		c, err := net.Dial("unix", filepath.Join(rs.NS.RunDir(), "wireguard", "wg0.sock"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(500 * time.Millisecond))
		if _, err := c.Write([]byte("get=1\n\n")); err != nil {
			t.Fatal(err)
		}
		_, err = c.Read(make([]byte, 1))
		return err
	}
	if err := l.establish(ctx, site); err != nil {
		t.Fatal(err)
	}
	rs.HangTerminator()
	if err := asked(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("asked while it hangs: %v, want no answer", err)
	}
	if n := ping(); n != 0 {
		t.Errorf("%d of 3 answered while it hangs", n)
	}
	rs.ResumeTerminator()
	if err := asked(); err != nil {
		t.Errorf("asked when it goes on: %v", err)
	}
	if n := ping(); n != 3 {
		t.Errorf("%d of 3 answered when it goes on", n)
	}
	rs.HangTerminator()
	rs.KillTerminator()
	if err := rs.StartTerminator(); err != nil {
		t.Fatal(err)
	}
	if err := asked(); err != nil {
		t.Errorf("asked when it was started again: %v", err)
	}
}
