package load

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tunneldirector/realserver/space"
	"tunneldirector/realserver/terminator"
)

var ike = netip.MustParseAddrPort("127.0.0.1:4500")

// buffer is the receive buffer of the one socket at an address.
func buffer(t *testing.T, s space.Space, at netip.AddrPort) (bytes int) {
	t.Helper()
	in(t, s, func() error {
		all, err := readSockets(t.Context(), []netip.AddrPort{at})
		if err == nil && len(all) != 1 {
			err = fmt.Errorf("%d sockets at %s", len(all), at)
		}
		if err == nil {
			bytes = int(all[0].buffer)
		}
		return err
	})
	return bytes
}

func queueOf(t *testing.T, s space.Space, name string) (packets int) {
	t.Helper()
	in(t, s, func() error {
		l, err := netlink.LinkByName(name)
		if err == nil {
			packets = l.Attrs().TxQLen
		}
		return err
	})
	return packets
}

func TestRaiseAndLower(t *testing.T) {
	s := newSpace(t)
	pid := start(t, s, "deaf "+ike.String())
	openTUN(t, s, "tun7")
	work := terminator.Work{Processes: []int{pid}, Sockets: []netip.AddrPort{ike}, Devices: []string{"tun7"}}
	want := Want{ReceiveBuffer: 8 << 20, Queue: 5000}
	bytes, packets := buffer(t, s, ike), queueOf(t, s, "tun7")

	r := Room{Space: s}
	did, err := r.Raise(t.Context(), work, want)
	if err != nil || len(did) != 2 {
		t.Fatalf("raised %q, %v", did, err)
	}
	if b, q := buffer(t, s, ike), queueOf(t, s, "tun7"); b != 16<<20 || q != 5000 {
		t.Errorf("%d bytes and %d packets, want %d and %d; it says %q", b, q, 16<<20, 5000, did)
	}
	if did, err = r.Raise(t.Context(), work, want); err != nil || len(did) != 0 {
		t.Errorf("again: %q, %v", did, err)
	}
	if did, err = r.Raise(t.Context(), work, Want{ReceiveBuffer: 9 << 20, Queue: 6000}); err != nil || len(did) != 2 {
		t.Errorf("more: %q, %v", did, err)
	}

	// Another run of the agent puts back what was before the first.
	stored, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var next Room
	if err := json.Unmarshal(stored, &next); err != nil {
		t.Fatal(err)
	}
	if did, err = next.Lower(t.Context(), work); err != nil || len(did) != 2 {
		t.Errorf("lowered %q, %v", did, err)
	}
	if b, q := buffer(t, s, ike), queueOf(t, s, "tun7"); b != bytes || q != packets {
		t.Errorf("%d bytes and %d packets, were %d and %d", b, q, bytes, packets)
	}
	if len(next.Sockets)+len(next.Devices) != 0 {
		t.Errorf("it remembers %+v after all was put back", next)
	}
	if did, err = next.Lower(t.Context(), work); err != nil || len(did) != 0 {
		t.Errorf("lowered again: %q, %v", did, err)
	}
}

// TestKeptBeforeRaised: what was is on disk before it is changed, and puts it back from wherever an agent was killed.
func TestKeptBeforeRaised(t *testing.T) {
	s := newSpace(t)
	pid := start(t, s, "deaf "+ike.String())
	openTUN(t, s, "tun7")
	work := terminator.Work{Processes: []int{pid}, Sockets: []netip.AddrPort{ike}, Devices: []string{"tun7"}}
	bytes, packets := buffer(t, s, ike), queueOf(t, s, "tun7")
	full := errors.New("no space left on device")
	r := Room{Space: s, Keep: func(Room) error { return full }}
	if did, err := r.Raise(t.Context(), work, Want{ReceiveBuffer: 8 << 20, Queue: 5000}); !errors.Is(err, full) || len(did) != 0 {
		t.Errorf("raised %q with nothing kept: %v", did, err)
	}
	if b, q := buffer(t, s, ike), queueOf(t, s, "tun7"); b != bytes || q != packets {
		t.Errorf("%d bytes and %d packets, were %d and %d", b, q, bytes, packets)
	}
	var kept [][]byte
	r = Room{Space: s, Keep: func(r Room) error {
		data, err := json.Marshal(r)
		kept = append(kept, data)
		return err
	}}
	for _, want := range []Want{{8 << 20, 5000}, {9 << 20, 6000}} {
		if did, err := r.Raise(t.Context(), work, want); err != nil || len(did) != 2 {
			t.Fatalf("raised %q, %v", did, err)
		}
	}
	if len(kept) != 4 {
		t.Fatalf("kept %d times", len(kept))
	}
	for i, data := range [][]byte{kept[3], kept[1]} { // before the second, and the first time that the device was changed
		var next Room
		if err := json.Unmarshal(data, &next); err != nil {
			t.Fatal(err)
		}
		if did, err := next.Lower(t.Context(), work); err != nil || len(next.Sockets)+len(next.Devices) != 0 || len(did) != 2-2*i {
			t.Errorf("lowered %q, %v; it remembers %+v", did, err, next)
		}
		if b, q := buffer(t, s, ike), queueOf(t, s, "tun7"); b != bytes || q != packets {
			t.Errorf("%d bytes and %d packets, were %d and %d", b, q, bytes, packets)
		}
	}
}

// After a restart of the host the cookies of before are those of other sockets.
func TestRoomOfAnEarlierStart(t *testing.T) {
	s := newSpace(t)
	natt := netip.MustParseAddrPort("127.0.0.1:4500")
	pid := start(t, s, "deaf "+natt.String())
	work := terminator.Work{Processes: []int{pid}, Sockets: []netip.AddrPort{natt}}
	r := Room{Space: s}
	if _, err := r.Raise(t.Context(), work, Want{ReceiveBuffer: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	had := r.Sockets[0].Was
	r.Sockets[0].Local = netip.MustParseAddrPort("127.0.0.1:500") // as if that had been another's
	r.Sockets[0].Was = 4096
	if _, err := r.Raise(t.Context(), work, Want{ReceiveBuffer: 2 << 20}); err != nil {
		t.Fatal(err)
	}
	if len(r.Sockets) != 2 || r.Sockets[1].Local != natt || r.Sockets[1].Was != 2<<20 {
		t.Fatalf("it remembers %+v, want the socket at %s with what it had (first %d)", r.Sockets, natt, had)
	}
	if did, err := r.Lower(t.Context(), work); err != nil || len(did) != 1 || len(r.Sockets) != 0 {
		t.Errorf("lowered %q, %v, and it remembers %+v", did, err, r.Sockets)
	}
	if b := buffer(t, s, natt); b != 2<<20 {
		t.Errorf("%d bytes, want %d", b, 2<<20)
	}
}

// What somebody else set since is left.
func TestLowerLeavesWhatOthersSet(t *testing.T) {
	s := newSpace(t)
	pid := start(t, s, "deaf "+ike.String())
	openTUN(t, s, "tun7")
	work := terminator.Work{Processes: []int{pid}, Sockets: []netip.AddrPort{ike}, Devices: []string{"tun7"}}
	r := Room{Space: s}
	if _, err := r.Raise(t.Context(), work, Want{ReceiveBuffer: 1 << 20, Queue: 5000}); err != nil {
		t.Fatal(err)
	}
	other := Room{Space: s}
	if _, err := other.Raise(t.Context(), work, Want{ReceiveBuffer: 2 << 20, Queue: 7000}); err != nil {
		t.Fatal(err)
	}
	did, err := r.Lower(t.Context(), work)
	if err != nil || len(did) != 2 || !strings.HasSuffix(did[0], ": left") || !strings.HasSuffix(did[1], ": left") {
		t.Errorf("lowered %q, %v", did, err)
	}
	if b, q := buffer(t, s, ike), queueOf(t, s, "tun7"); b != 4<<20 || q != 7000 {
		t.Errorf("%d bytes and %d packets", b, q)
	}
}

// A device or a file that is another one by now is not touched.
func TestOnlyTheSame(t *testing.T) {
	s := newSpace(t)
	pid := start(t, s, "deaf "+ike.String())
	openTUN(t, s, "tun7")
	r := Room{Space: s}
	if _, err := r.Raise(t.Context(), terminator.Work{Devices: []string{"tun7"}}, Want{Queue: 5000}); err != nil {
		t.Fatal(err)
	}
	r.Devices[0].Index++
	if did, err := r.Lower(t.Context(), terminator.Work{}); err != nil || len(did) != 0 || len(r.Devices) != 0 || queueOf(t, s, "tun7") != 5000 {
		t.Errorf("another device of the name: lowered %q, %v, remembers %+v", did, err, r.Devices)
	}
	holders, err := findHolders([]int{pid})
	if err != nil || len(holders) == 0 {
		t.Fatalf("%d sockets, %v", len(holders), err)
	}
	for inode, h := range holders {
		if err := h.with(inode+1, func(int) error { return nil }); !errors.Is(err, errOther) {
			t.Errorf("another file at its place: %v", err)
		}
		if err := h.with(inode, func(int) error { return nil }); err != nil {
			t.Error(err)
		}
	}
}

// A terminator that was restarted has a new socket, and is raised again.
func TestRaiseAfterRestart(t *testing.T) {
	s := newSpace(t)
	r := Room{Space: s}
	for range 2 {
		t.Run("life", func(t *testing.T) {
			work := terminator.Work{Processes: []int{start(t, s, "deaf "+ike.String())}, Sockets: []netip.AddrPort{ike}}
			if did, err := r.Raise(t.Context(), work, Want{ReceiveBuffer: 1 << 20}); err != nil || len(did) != 1 || len(r.Sockets) != 1 {
				t.Errorf("raised %q, %v, remembers %+v", did, err, r.Sockets)
			}
		})
	}
	if did, err := r.Lower(t.Context(), terminator.Work{}); err != nil || len(did) != 0 || len(r.Sockets) != 0 {
		t.Errorf("lowered %q, %v, when all is gone; remembers %+v", did, err, r.Sockets)
	}
}

func TestRaiseNamesWhatItMayNot(t *testing.T) {
	s := newSpace(t)
	start(t, s, "deaf "+ike.String())
	want := Want{ReceiveBuffer: 1 << 20, Queue: 5000}
	r := Room{Space: s}
	// Nobody's that the terminator names, as WireGuard's own socket is; a device that is no TUN; one that is not there.
	work := terminator.Work{Processes: []int{os.Getpid(), 1 << 30}, Sockets: []netip.AddrPort{ike}, Devices: []string{"lo", "tun9"}}
	did, err := r.Raise(t.Context(), work, want)
	if len(did) != 0 || err == nil {
		t.Fatalf("raised %q, %v", did, err)
	}
	for _, says := range []string{"socket 127.0.0.1:4500: no process of the terminator holds it: it is the kernel's own", "device lo longer: it is a device device", "device tun9 longer: Link not found"} {
		if !strings.Contains(err.Error(), says) {
			t.Errorf("%q is not in: %v", says, err)
		}
	}
	if len(r.Sockets)+len(r.Devices) != 0 {
		t.Errorf("it remembers %+v", r)
	}
}

// raiseAsChild is Raise by a process without rights.
func raiseAsChild(argument string) {
	var pid int
	_, _ = fmt.Sscan(argument, &pid)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var r Room
	did, err := r.Raise(ctx, terminator.Work{Processes: []int{pid}, Sockets: []netip.AddrPort{ike}}, Want{ReceiveBuffer: 1 << 28})
	fmt.Printf("%q %v", did, err)
	os.Exit(0)
}

func TestRaiseWithoutRights(t *testing.T) {
	nobody := &syscall.Credential{Uid: 65534, Gid: 65534}
	for _, tt := range []struct {
		name string
		of   *syscall.Credential // whose the terminator is
		says string
		more bool
	}{
		{"another user's process", nil, "which takes CAP_SYS_PTRACE", false},
		{"its own user's process", nobody, "what net.core.rmem_max allows without CAP_NET_ADMIN", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSpace(t)
			pid := startAs(t, s, "deaf "+ike.String(), tt.of)
			was := buffer(t, s, ike)
			c := exec.Command("/proc/self/exe")
			c.Env = append(os.Environ(), fmt.Sprintf("%s=raise %d", childEnv, pid))
			c.SysProcAttr = &syscall.SysProcAttr{Credential: nobody}
			var out []byte
			in(t, s, func() (err error) {
				out, err = c.Output()
				return err
			})
			if !strings.Contains(string(out), tt.says) {
				t.Errorf("it says %s, want %q", out, tt.says)
			}
			if is := buffer(t, s, ike); (is > was) != tt.more || is >= 2<<28 {
				t.Errorf("%d bytes, were %d", is, was)
			}
		})
	}
}

// A longer queue holds more of a burst.
func TestLongerQueueDropsLess(t *testing.T) {
	s := newSpace(t)
	send := openTUN(t, s, "tun7")
	drops := func() (n uint64) {
		in(t, s, func() error {
			d, err := readDevices(t.Context(), []string{"tun7"})
			n = d[0].drops
			return err
		})
		return n
	}
	r := Room{Space: s}
	if _, err := r.Raise(t.Context(), terminator.Work{Devices: []string{"tun7"}}, Want{Queue: 2000}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		send() // 900 packets, where it had room for 500
	}
	if n := drops(); n != 0 {
		t.Errorf("%d drops of 900 in a queue of 2000", n)
	}
	if _, err := r.Lower(t.Context(), terminator.Work{}); err != nil {
		t.Fatal(err)
	}
	before := drops()
	send()
	if n := drops(); n < before+300 {
		t.Errorf("%d drops more of 300 in a queue that is full", n-before)
	}
}

// A socket of the kernel's own is measured, and said to be out of reach.
func TestKernelsSocket(t *testing.T) {
	s := newSpace(t)
	var at netip.AddrPort
	err := s.Do(func() error {
		wg := &netlink.Wireguard{LinkAttrs: netlink.LinkAttrs{Name: "wg0"}}
		if err := netlink.LinkAdd(wg); err != nil {
			return err
		}
		if err := netlink.LinkSetUp(wg); err != nil {
			return err
		}
		all, err := readSockets(t.Context(), []netip.AddrPort{{}}) // at any port
		if err == nil && len(all) == 0 {
			err = errors.New("an interface that is up has no socket")
		}
		if err == nil {
			at = all[0].local
		}
		return err
	})
	if errors.Is(err, unix.EOPNOTSUPP) && os.Getenv("TUNNELDIRECTOR_VM") != "1" {
		t.Skip("needs the kernel's WireGuard (module wireguard)")
	}
	if err != nil {
		t.Fatal(err)
	}
	work := terminator.Work{Sockets: []netip.AddrPort{at}, Devices: []string{"wg0"}}
	l, err := New(Options{Space: s}).Sample(t.Context(), work, 0)
	if p := part(t, l, "receive queue"); err != nil || !strings.HasPrefix(p.Says, "socket ") {
		t.Errorf("%+v, %v", p, err)
	}
	r := Room{Space: s}
	did, err := r.Raise(t.Context(), work, Want{ReceiveBuffer: 8 << 20, Queue: 5000})
	if len(did) != 0 || !errors.Is(err, errKernels) || !strings.Contains(err.Error(), "device wg0 longer: it is a wireguard device") {
		t.Errorf("raised %q, %v", did, err)
	}
}
