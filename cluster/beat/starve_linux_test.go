package beat

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tunneldirector/cluster"
)

var starve = flag.Duration("starve", 3*time.Second, "how long directors run on a starved machine; from a minute on, without the measures against it as well")

// A role is what a process of this test binary does instead of testing.
type role struct {
	Burn    bool             // nothing but take processor time
	Self    int              // the director of this number
	Addrs   []netip.AddrPort // of all directors
	Busy    int              // goroutines that take processor time beside it
	Nice    int
	Thread  bool // it may have its real-time thread that sleeps in the kernel
	Listens bool // its lateness does not count, and it empties its sockets
}

const roleEnv = "TUNNELDIRECTOR_BEAT_ROLE"

func TestMain(m *testing.M) {
	if text := os.Getenv(roleEnv); text != "" {
		var r role
		if err := json.Unmarshal([]byte(text), &r); err != nil {
			panic(err)
		}
		if err := r.play(); err != nil {
			panic(err)
		}
		return
	}
	os.Exit(m.Run())
}

// play ends with its standard input, and so with the test.
func (r role) play() error {
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	if err := unix.Setpriority(unix.PRIO_PROCESS, 0, r.Nice); err != nil {
		return err
	}
	for range r.Busy {
		go burn()
	}
	if r.Burn {
		burn()
	}
	file := os.NewFile(3, "socket")
	conn, err := net.FilePacketConn(file)
	if err != nil {
		return err
	}
	if !r.Listens {
		conn = &hasty{PacketConn: conn}
	}
	var members []cluster.Member
	for i, a := range r.Addrs {
		members = append(members, cluster.Member{Name: fmt.Sprint("d", i), Rank: i + 1, Role: cluster.RoleBoth, Beats: []netip.AddrPort{a}})
	}
	b := New(Options{Self: members[r.Self], Conns: []net.PacketConn{conn}, Ring: keys{key(1)}, Log: slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: untimed}))})
	if !r.Thread {
		b.raise, b.sleep = func() error { return errors.ErrUnsupported }, time.Sleep
	}
	if !r.Listens {
		b.slack = time.Hour
	}
	b.SetMembers(members)
	go r.tell(b)
	return b.Run(context.Background())
}

// untimed has lines of the log begin with what they say.
func untimed(_ []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey || a.Key == slog.LevelKey {
		return slog.Attr{}
	}
	return a
}

// tell writes who comes and goes, as the director sees it.
func (r role) tell(b *Beater) {
	alive := map[string]bool{}
	for {
		select {
		case <-b.Changed():
		case <-time.After(50 * time.Millisecond):
		}
		b.Say(cluster.Beat{Ready: true})
		for _, p := range b.View().Peers {
			if p.Alive != alive[p.Member.Name] {
				fmt.Println(map[bool]string{true: "alive", false: "dead"}[p.Alive], p.Member.Name)
			}
			alive[p.Member.Name] = p.Alive
		}
	}
}

func burn() {
	for n := new(atomic.Uint64); ; {
		n.Add(1)
	}
}

// A hasty socket says that it is empty without looking.
type hasty struct {
	net.PacketConn
	mu      sync.Mutex
	skipped bool
}

func (h *hasty) SetReadDeadline(t time.Time) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.skipped = !t.IsZero()
	return h.PacketConn.SetReadDeadline(t)
}

func (h *hasty) ReadFrom(buf []byte) (int, net.Addr, error) {
	h.mu.Lock()
	skip := h.skipped
	h.mu.Unlock()
	if skip {
		return 0, nil, os.ErrDeadlineExceeded
	}
	return h.PacketConn.ReadFrom(buf)
}

// A process plays a role.
type process struct {
	cmd *exec.Cmd
	mu  sync.Mutex
	out []string
}

func (p *process) lines(prefix string) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.out {
		if strings.HasPrefix(l, prefix) {
			n++
		}
	}
	return n
}

func startRole(t *testing.T, r role, socket *os.File, env ...string) *process {
	t.Helper()
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: exec.Command(os.Args[0])}
	p.cmd.Env = append(append(os.Environ(), roleEnv+"="+string(text)), env...)
	p.cmd.Stderr = os.Stderr
	if socket != nil {
		p.cmd.ExtraFiles = []*os.File{socket}
	}
	in, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		for s := bufio.NewScanner(out); s.Scan(); {
			p.mu.Lock()
			p.out = append(p.out, s.Text())
			p.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		in.Close()
		<-read
		p.cmd.Wait()
	})
	return p
}

// trio starts three directors in processes of their own, and waits until each sees the others.
func trio(t *testing.T, like role) []*process {
	t.Helper()
	var sockets []*os.File
	for range 3 {
		conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		like.Addrs = append(like.Addrs, conn.LocalAddr().(*net.UDPAddr).AddrPort())
		file, err := conn.File()
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
		defer file.Close()
		sockets = append(sockets, file)
	}
	var all []*process
	for i, s := range sockets {
		like.Self = i
		all = append(all, startRole(t, like, s, "GOMAXPROCS=1"))
	}
	for _, p := range all {
		for end := time.Now().Add(30 * time.Second); p.lines("alive") < 2 || p.lines(`msg="heartbeats are sent"`) == 0; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("the directors do not see each other: %q", p.out)
			}
		}
	}
	return all
}

// TestStarvedMachine: nobody is called dead by directors that share their machine with more than it can do.
func TestStarvedMachine(t *testing.T) {
	modes := []role{{Thread: true, Listens: true}}
	if *starve >= time.Minute {
		modes = append(modes, role{Listens: true}, role{Thread: true}, role{})
	}
	for _, load := range []struct {
		name       string
		burn, busy int
		nice       int
		without    bool // measured only: nobody without real time survives it
	}{
		{"8 busy processes, 2 busy goroutines in each director", 8, 2, 0, false},
		{"8 busy processes, directors at nice 19", 8, 0, 19, true},
		{"8 busy processes, 2 busy goroutines in each director, at nice 19", 8, 2, 19, true},
	} {
		if load.without && *starve < time.Minute {
			continue
		}
		for _, r := range modes {
			t.Run(fmt.Sprintf("%s, thread %t, listening %t", load.name, r.Thread, r.Listens), func(t *testing.T) {
				r.Busy, r.Nice = load.busy, load.nice
				all := trio(t, r)
				for range load.burn {
					startRole(t, role{Burn: true}, nil)
				}
				time.Sleep(*starve)
				alarms := 0
				for _, p := range all {
					alarms += p.lines("dead")
				}
				t.Logf("%d false alarms in %v, %.1f a minute; %d processors; %s", alarms, *starve, float64(alarms)/starve.Minutes(), runtime.NumCPU(), all[0].out[0])
				if r.Thread && r.Listens && !load.without && alarms > 0 {
					t.Errorf("%d false alarms in %v", alarms, *starve)
				}
			})
		}
	}
}

// TestStopped: directors that were stopped find the others alive when they go on, and that is so if all were, as on a machine
// that was paused. Those that run find a stopped one dead meanwhile.
func TestStopped(t *testing.T) {
	modes := []role{{Thread: true, Listens: true}}
	if *starve >= time.Minute {
		modes = append(modes, role{})
	}
	for _, stopped := range []int{1, 3} {
		for _, r := range modes {
			t.Run(fmt.Sprintf("%d of 3, thread %t, listening %t", stopped, r.Thread, r.Listens), func(t *testing.T) {
				all := trio(t, r)
				signal := func(s os.Signal) {
					for _, p := range all[:stopped] {
						if err := p.cmd.Process.Signal(s); err != nil {
							t.Fatal(err)
						}
					}
				}
				stops := 0
				for end := time.Now().Add(*starve); time.Now().Before(end); stops++ {
					signal(unix.SIGSTOP)
					time.Sleep(1500 * time.Millisecond)
					signal(unix.SIGCONT)
					time.Sleep(time.Second)
				}
				alarms := 0
				for _, p := range all[:stopped] {
					alarms += p.lines("dead")
				}
				t.Logf("%d false alarms in %d stops", alarms, stops)
				if r.Listens && alarms > 0 {
					t.Errorf("%d false alarms in %d stops", alarms, stops)
				}
				for _, p := range all[stopped:] {
					if n := p.lines("dead d0"); n < stops-1 {
						t.Errorf("one that ran saw %d of %d stops", n, stops)
					}
				}
			})
		}
	}
}
