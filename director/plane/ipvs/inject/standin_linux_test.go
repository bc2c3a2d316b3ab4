package inject

import (
	"errors"
	"net"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// inNamespace puts the test's goroutine, for good, into a network namespace of its own.
func inNamespace(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("not root: no network namespaces")
		}
		t.Skip("not root: no network namespaces")
	}
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	ns, err := netns.New()
	must(t, err)
	t.Cleanup(func() { must(t, ns.Close()) })
	up(t, "lo") // without which there is no table of local addresses
}

func up(t *testing.T, name string) {
	t.Helper()
	link, err := netlink.LinkByName(name)
	must(t, err)
	must(t, netlink.LinkSetUp(link))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A standIn receives messages as the kernel's daemon does, in a socket of the same options.
type standIn struct {
	others []daemon // what runs beside it
	queue  int      // of the socket, bytes; 0: the default
	slow   time.Duration

	mu       sync.Mutex // guards all below
	starts   int
	socket   *os.File
	received []Conn
	bad      error
	done     chan struct{}
}

func (s *standIn) daemons() ([]daemon, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := slices.Clone(s.others)
	if s.socket != nil {
		all = append(all, daemon{stateBackup, Interface, 1})
	}
	return all, nil
}

func (s *standIn) start(o Options) error {
	near, err := net.InterfaceByName(Interface)
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX, near.Index),
		unix.Bind(fd, &unix.SockaddrInet4{Port: int(o.Port), Addr: o.Group.As4()}),
		unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP, &unix.IPMreqn{Multiaddr: o.Group.As4(), Ifindex: int32(near.Index)}),
	)
	if s.queue > 0 {
		err = errors.Join(err, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, s.queue))
	}
	if err != nil {
		return errors.Join(err, unix.Close(fd))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.starts++
	s.socket, s.done = os.NewFile(uintptr(fd), "stand-in"), make(chan struct{})
	go s.receive(s.socket, s.done, o.SyncID)
	return nil
}

func (s *standIn) receive(socket *os.File, done chan struct{}, id uint8) {
	defer close(done)
	b := make([]byte, maxMessage+1)
	for {
		n, err := socket.Read(b)
		if err != nil {
			return
		}
		time.Sleep(s.slow)
		s.take(b[:n], id)
	}
}

func (s *standIn) take(b []byte, id uint8) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(b) == markerSize && b[4] == 0 {
		return
	}
	conns, err := decode(b, id)
	if err != nil {
		s.bad = err
	}
	s.received = append(s.received, conns...)
}

func (s *standIn) stop() error {
	s.mu.Lock()
	socket, done := s.socket, s.done
	s.socket = nil
	s.mu.Unlock()
	if socket == nil {
		return nil
	}
	err := socket.Close()
	<-done
	return err
}

func (s *standIn) Close() {}

// last tells when each entry was received last.
func (s *standIn) last(t *testing.T) map[Conn]int {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	must(t, s.bad)
	all := map[Conn]int{}
	for i, c := range s.received {
		all[c] = i
	}
	return all
}
