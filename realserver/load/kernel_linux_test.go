package load

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"tunneldirector/director/agent"
	"tunneldirector/integration/spaces"
	"tunneldirector/realserver/space"
	"tunneldirector/realserver/terminator"
)

// childEnv makes the test's program a terminator that does nothing but one thing.
const childEnv = "LOAD_TEST_CHILD"

func TestMain(m *testing.M) {
	if what := os.Getenv(childEnv); what != "" {
		child(what)
	}
	os.Exit(m.Run())
}

// child is a terminator that spins, or has a socket that it does not read. It ends with its standard input.
func child(what string) {
	kind, argument, _ := strings.Cut(what, " ")
	switch kind {
	case "spin":
		go func() {
			runtime.LockOSThread()
			for n := 1; n != 0; n |= 1 { // for ever
			}
		}()
	case "threads":
		for range 95 { // and Go's own
			go func() {
				runtime.LockOSThread()
				select {}
			}()
		}
		time.Sleep(100 * time.Millisecond)
	case "deaf":
		c, err := net.ListenPacket("udp", argument)
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		defer c.Close()
	}
	if kind == "raise" {
		raiseAsChild(argument)
	}
	fmt.Println("ready")
	_, _ = os.Stdin.Read(make([]byte, 1))
	os.Exit(0)
}

// newSpace makes a network namespace that is reached by a path, as a real server's.
func newSpace(t testing.TB) space.Space {
	spaces.Root(t)
	made := make(chan space.Space)
	done := make(chan struct{})
	go func() { // its thread is the namespace's, and is not used again
		runtime.LockOSThread()
		ns, err := netns.New()
		if err != nil {
			t.Error(err)
		}
		defer ns.Close()
		made <- space.Space(fmt.Sprintf("/proc/%d/task/%d/ns/net", os.Getpid(), unix.Gettid()))
		<-done
	}()
	s := <-made
	t.Cleanup(func() { close(done) })
	in(t, s, func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.LinkSetUp(lo)
	})
	return s
}

func in(t testing.TB, s space.Space, f func() error) {
	t.Helper()
	if err := s.Do(f); err != nil {
		t.Fatal(err)
	}
}

// start runs a child in a namespace until the test ends.
func start(t testing.TB, s space.Space, what string) (pid int) {
	t.Helper()
	return startAs(t, s, what, nil)
}

// startAs runs it as a user; nil: as root.
func startAs(t testing.TB, s space.Space, what string, user *syscall.Credential) (pid int) {
	t.Helper()
	c := exec.Command("/proc/self/exe")
	c.SysProcAttr = &syscall.SysProcAttr{Credential: user}
	c.Env = append(os.Environ(), childEnv+"="+what)
	stdin, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	in(t, s, c.Start)
	t.Cleanup(func() {
		stdin.Close()
		_ = c.Process.Kill()
		_ = c.Wait()
	})
	line := make([]byte, 100)
	n, _ := stdout.Read(line)
	if string(line[:n]) != "ready\n" {
		t.Fatalf("child %q: %q", what, line[:n])
	}
	return c.Process.Pid
}

// sample measures each 200 ms until the load is as wanted.
func sample(t *testing.T, m *Meter, work terminator.Work, busy func(), wanted func(agent.Load) bool) agent.Load {
	t.Helper()
	var l agent.Load
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		if busy != nil {
			busy()
		}
		var err error
		if l, err = m.Sample(t.Context(), work, 0); err != nil {
			t.Fatal(err)
		}
		if wanted(l) {
			return l
		}
	}
	t.Fatalf("after 20 s still %+v", l)
	return l
}

// A thread that spins is full by its thread, however many other threads and cores there are, and whoever else wants its core.
func TestSpinningThreadIsFull(t *testing.T) {
	pid := start(t, "", "spin")
	m := New(Options{})
	l := sample(t, m, terminator.Work{Processes: []int{pid}}, nil, func(l agent.Load) bool {
		return l.Full && part(t, l, "cpu").Permille >= 1000
	})
	if says := part(t, l, "cpu").Says; !strings.HasPrefix(says, "thread ") {
		t.Errorf("it says %q", says)
	}
}

// Two threads that share a core are full at half a core each.
func TestSharedCoreIsFull(t *testing.T) {
	var all, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		t.Fatal(err)
	}
	for core := 0; one.Count() == 0; core++ {
		if all.IsSet(core) {
			one.Set(core)
		}
	}
	pid, other := start(t, "", "spin"), start(t, "", "spin")
	for _, pid := range []int{pid, other} {
		tids, err := threadIDs(fmt.Sprintf("/proc/%d/task", pid))
		if err != nil {
			t.Fatal(err)
		}
		for _, tid := range tids {
			if err := unix.SchedSetaffinity(tid, &one); err != nil {
				t.Fatal(err)
			}
		}
	}
	m := New(Options{})
	sample(t, m, terminator.Work{Processes: []int{pid}}, nil, func(l agent.Load) bool {
		own, kept := 0.0, 0.0
		for _, th := range m.threads {
			if o, k := th.demand(); o > own {
				own, kept = o, k
			}
		}
		return l.Full && own > 0.05 && kept > 0.2 // as far as others on this machine let it
	})
}

func TestUnreadSocketIsFull(t *testing.T) {
	s := newSpace(t)
	vip := netip.MustParseAddrPort("127.0.0.1:4500")
	pid := start(t, s, "deaf "+vip.String())
	var c net.Conn
	in(t, s, func() (err error) {
		c, err = net.Dial("udp", vip.String())
		return err
	})
	defer c.Close()
	m := New(Options{Space: s})
	work := terminator.Work{Processes: []int{pid}, Sockets: []netip.AddrPort{vip}}
	flood := func() {
		for range 100 {
			_, _ = c.Write(make([]byte, 1000))
		}
	}
	sample(t, m, work, flood, func(l agent.Load) bool { return part(t, l, "receive queue").Permille >= 1500 })
	l := sample(t, m, work, flood, func(l agent.Load) bool { return part(t, l, "receive drops").Permille >= 1000 })
	if !l.Full {
		t.Error("it drops, and is not full")
	}
	if says := part(t, l, "receive drops").Says; !strings.Contains(says, "socket 127.0.0.1:4500 dropped") {
		t.Errorf("it says %q", says)
	}
	// In the namespace of the agent nobody has such a socket.
	other, err := New(Options{}).Sample(t.Context(), work, 0)
	if p := part(t, other, "receive drops"); err != nil || p.Says != "no socket" {
		t.Errorf("outside its namespace: %+v, %v", p, err)
	}
}

// tunNode makes what opens TUN devices where a virtual machine has the module, but no udev that made the node.
func tunNode(t *testing.T) {
	t.Helper()
	if _, err := os.Stat("/dev/net/tun"); err == nil || os.Getenv("TUNNELDIRECTOR_VM") != "1" {
		return
	}
	if err := os.MkdirAll("/dev/net", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mknod("/dev/net/tun", unix.S_IFCHR|0o600, int(unix.Mkdev(10, 200))); err != nil {
		t.Fatal(err)
	}
}

// openTUN makes a TUN device that nobody reads, and sends to what is behind it.
func openTUN(t *testing.T, s space.Space, name string) (send func()) {
	t.Helper()
	tunNode(t)
	var c net.Conn
	in(t, s, func() error {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		t.Cleanup(func() { unix.Close(fd) })
		req, err := unix.NewIfreq(name)
		if err != nil {
			return err
		}
		req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
			return err
		}
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		if err := netlink.AddrAdd(l, &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(10, 1, 0, 1), Mask: net.CIDRMask(24, 32)}}); err != nil {
			return err
		}
		if err := netlink.LinkSetUp(l); err != nil {
			return err
		}
		c, err = net.Dial("udp", "10.1.0.2:9")
		return err
	})
	t.Cleanup(func() { c.Close() })
	return func() {
		for i := range 300 {
			_, _ = c.Write(binary.BigEndian.AppendUint32(nil, uint32(i)))
		}
	}
}

func TestUnreadDeviceIsFull(t *testing.T) {
	s := newSpace(t)
	send := openTUN(t, s, "tun7")
	m := New(Options{Space: s})
	l := sample(t, m, terminator.Work{Devices: []string{"tun7", "lo", "missing"}}, send, func(l agent.Load) bool { return part(t, l, "tun drops").Permille >= 1000 })
	if says := part(t, l, "tun drops").Says; !strings.HasPrefix(says, "device tun7 dropped ") || !l.Full {
		t.Errorf("full %t, it says %q", l.Full, says)
	}
}

func TestNothing(t *testing.T) {
	m := New(Options{})
	l, err := m.Sample(t.Context(), terminator.Work{}, 3)
	if err != nil || len(l.Parts) == 0 {
		t.Errorf("%+v, %v", l, err)
	}
	// A process that is none, and a namespace that is none.
	work := terminator.Work{Processes: []int{1 << 30}}
	if l, err = m.Sample(t.Context(), work, 3); err != nil || part(t, l, "cpu").Says != "no process" {
		t.Errorf("%+v, %v", l, err)
	}
	m = New(Options{Space: space.Space(filepath.Join(t.TempDir(), "none")), Capacity: 3})
	if l, err = m.Sample(t.Context(), terminator.Work{Devices: []string{"tun0"}}, 3); err == nil || !l.Full {
		t.Errorf("a namespace that is not there: %+v, %v; want an error, and the rest", l, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err = New(Options{}).Sample(ctx, terminator.Work{Processes: []int{os.Getpid()}}, 3); err == nil {
		t.Error("no error after its context ended")
	}
}
