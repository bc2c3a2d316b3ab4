package realserver

import (
	"context"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tunneldirector/director/agent"
)

// traffic is software whose tunnels all carry packets.
type traffic struct{ software }

func (s *traffic) Tunnels(context.Context) ([]agent.Tunnel, error) {
	list := make([]agent.Tunnel, len(s.up))
	copy(list, s.up)
	for i := range list {
		s.up[i].Rx += 1000
		s.up[i].Last = time.Now()
	}
	return list, nil
}

// BenchmarkAtRest is an agent with 10,000 established tunnels and two directors, in seconds of real time: what it takes of a core
// and of memory, without what the terminator's driver takes. The directors' own part is in it.
func BenchmarkAtRest(b *testing.B) {
	debug.SetGCPercent(GCPercent)
	soft := &traffic{}
	soft.up = sites(10_000, time.Now())
	a := New(Options{Host: "node-a", Instances: []Instance{{Server: agent.Server{Name: "rs1"}, Terminator: soft}}, Directors: []string{"d1", "d2"},
		Log: slog.New(slog.DiscardHandler), Dial: func(context.Context, string) (net.Conn, error) {
			near, far := net.Pipe()
			go greetOnly(far)
			return near, nil
		}})
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	time.Sleep(2 * time.Second) // the start is over
	before := cpu(b)
	b.ResetTimer()
	for b.Loop() {
		time.Sleep(time.Second)
	}
	b.ReportMetric((cpu(b)-before).Seconds()/b.Elapsed().Seconds()*100, "%core")
	b.ReportMetric(float64(resident(b))/(1<<20), "MiB")
	cancel()
	if err := <-done; err != nil {
		b.Error(err)
	}
}

// greetOnly is a director that welcomes, and reads without looking.
func greetOnly(c net.Conn) {
	conn := agent.NewConn(c)
	if _, err := conn.Receive(); err != nil || conn.Send(agent.Message{Welcome: &agent.Welcome{Format: agent.Format}}) != nil {
		return
	}
	go func() {
		for conn.Send(agent.Message{}) == nil {
			time.Sleep(agent.Patience / 3)
		}
	}()
	b := make([]byte, 64<<10)
	for {
		if _, err := c.Read(b); err != nil {
			return
		}
	}
}

func cpu(t testing.TB) time.Duration {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func resident(t testing.TB) int {
	t.Helper()
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(text))[1])
	if err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}
