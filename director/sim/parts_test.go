package sim

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// What is made here is tested here: network and clock.

func two(t *testing.T) (n *network, a, b netip.AddrPort) {
	t.Helper()
	n = newNetwork(1)
	n.attach("a", netip.MustParseAddr("198.51.100.1"))
	n.attach("b", netip.MustParseAddr("198.51.100.2"))
	return n, netip.MustParseAddrPort("198.51.100.1:7464"), netip.MustParseAddrPort("198.51.100.2:7464")
}

func TestDatagrams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := two(t)
		from, to := n.listenPacket(a), n.listenPacket(b)
		got := func() (c int) {
			time.Sleep(time.Second)
			buf := make([]byte, 100)
			for {
				_ = to.SetReadDeadline(time.Now().Add(time.Millisecond))
				if _, _, err := to.ReadFrom(buf); err != nil {
					return c
				}
				c++
			}
		}
		send := func(count int) {
			for i := range count {
				if _, err := from.WriteTo([]byte{byte(i)}, net.UDPAddrFromAddrPort(b)); err != nil {
					t.Fatal(err)
				}
			}
		}
		send(100)
		if c := got(); c != 100 {
			t.Errorf("%d of 100 came", c)
		}
		n.set(way{"a", "b", 0}, func(l *link) { l.loss, l.twice = 0.5, 0.5 })
		send(100)
		if c := got(); c < 50 || c > 110 {
			t.Errorf("%d of 100 came by a way that loses a half and doubles a half", c)
		}
		n.set(way{"a", "b", 0}, func(l *link) { l.cut = true })
		send(100)
		if c := got(); c != 0 {
			t.Errorf("%d came by a way that is cut", c)
		}
		from.Close()
		to.Close()
	})
}

func TestStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := two(t)
		came := make(chan *stream, 1)
		n.listen(b, func(c *stream, peer string) { came <- c })
		here, err := n.dial(t.Context(), a, b)
		if err != nil {
			t.Fatal(err)
		}
		there := <-came
		sent := bytes.Repeat([]byte("0123456789"), 50_000)
		go func() {
			for part := 0; part < len(sent); part += 1000 {
				_, _ = here.Write(sent[part : part+1000])
				time.Sleep(time.Millisecond)
			}
			here.Close()
		}()
		time.Sleep(50 * time.Millisecond)
		n.set(way{"a", "b", 0}, func(l *link) { l.cut = true })
		time.Sleep(5 * time.Second)
		n.set(way{"a", "b", 0}, func(l *link) { l.cut, l.loss = false, 0.2 })
		n.set(way{"b", "a", 0}, func(l *link) { l.cut = true })
		time.Sleep(5 * time.Second)
		n.set(way{"b", "a", 0}, func(l *link) { l.cut = false })
		got, err := io.ReadAll(there)
		if err != nil || !bytes.Equal(got, sent) {
			t.Errorf("%d of %d bytes came, error %v", len(got), len(sent), err)
		}
		there.Close()
	})
}

func TestStreamsWaitAndBreak(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := two(t)
		came := make(chan *stream, 1)
		n.listen(b, func(c *stream, peer string) { came <- c })
		open := func() (*stream, *stream) {
			here, err := n.dial(t.Context(), a, b)
			if err != nil {
				t.Fatal(err)
			}
			return here, <-came
		}
		here, there := open()
		_ = here.SetWriteDeadline(time.Now().Add(time.Second))
		if k, err := here.Write(make([]byte, 1<<20)); err == nil || k > 3*room {
			t.Errorf("%d bytes fit that nobody reads, error %v", k, err)
		}
		n.set(way{"a", "b", 0}, func(l *link) { l.cut = true })
		_ = here.SetWriteDeadline(time.Time{})
		start := time.Now()
		_, err := here.Write(make([]byte, 1<<20))
		if took := time.Since(start); err == nil || took != patience {
			t.Errorf("a stream that is cut broke after %v: %v", took, err)
		}
		there.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		if _, err := n.dial(ctx, a, b); err == nil {
			t.Error("dialled through a cut")
		}
		cancel()
		n.set(way{"a", "b", 0}, func(l *link) { l.cut = false })
		here, there = open()
		here.lose()
		start = time.Now()
		if _, err := there.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) || time.Since(start) < time.Second {
			t.Errorf("the machine at the other end was lost: %v after %v", err, time.Since(start))
		}
		there.Close()
	})
}

func TestClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClock()
		a := c.read()
		time.Sleep(time.Second)
		c.set(-5 * time.Minute)
		b := c.read()
		if b.Sub(a) != time.Second {
			t.Errorf("%v passed between two readings, not a second", b.Sub(a))
		}
		if d := time.Until(b.Round(0)); d != -5*time.Minute {
			t.Errorf("the wall is off by %v", d)
		}
	})
}
