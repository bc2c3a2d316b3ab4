package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"
)

// EchoPort is where the target and every site's inside address echo UDP and TCP.
const EchoPort = 7

// An echoServer echoes at one address until it is closed.
type echoServer struct {
	udp  net.PacketConn
	tcp  net.Listener
	all  sync.WaitGroup
	stop context.CancelFunc
}

// serve starts an echoServer at each address, for the lab's life.
func (l *Lab) serve(ns *Namespace, addrs ...netip.Addr) error {
	for _, a := range addrs {
		e, err := serveEcho(ns, netip.AddrPortFrom(a, EchoPort))
		if err != nil {
			return err
		}
		l.echoes = append(l.echoes, e)
	}
	return nil
}

func serveEcho(ns *Namespace, at netip.AddrPort) (*echoServer, error) {
	e := new(echoServer)
	err := ns.Run(func() (err error) {
		var lc net.ListenConfig
		ctx := context.Background()
		if e.udp, err = lc.ListenPacket(ctx, "udp", at.String()); err != nil {
			return err
		}
		if e.tcp, err = lc.Listen(ctx, "tcp", at.String()); err != nil {
			return errors.Join(err, e.udp.Close())
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("echo at %s in %s: %w", at, ns.Name, err)
	}
	ctx, stop := context.WithCancel(context.Background())
	e.stop = stop
	e.all.Go(e.echoUDP)
	e.all.Go(func() { e.echoTCP(ctx) })
	return e, nil
}

// close ends the server and its connections.
func (e *echoServer) close() error {
	e.stop()
	err := errors.Join(e.udp.Close(), e.tcp.Close())
	e.all.Wait()
	return err
}

func (e *echoServer) echoUDP() {
	buf := make([]byte, 65536)
	for {
		n, from, err := e.udp.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			_, _ = e.udp.WriteTo(buf[:n], from) // an answer that cannot be sent is a lost one
		}
	}
}

func (e *echoServer) echoTCP(ctx context.Context) {
	for {
		c, err := e.tcp.Accept()
		if err != nil {
			return
		}
		e.all.Go(func() {
			defer context.AfterFunc(ctx, func() { c.Close() })()
			_, _ = io.Copy(c, c) // the client notices
			c.Close()
		})
	}
}

// EchoUDP sends count datagrams of size bytes, one after the other, to an echo server and returns how many came back
// unchanged within a second each.
func (l *Lab) EchoUDP(ctx context.Context, ns *Namespace, from, to netip.Addr, count, size int) (int, error) {
	var c net.Conn
	err := ns.Run(func() (err error) {
		d := net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, 0))}
		c, err = d.DialContext(ctx, "udp", netip.AddrPortFrom(to, EchoPort).String())
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("send UDP from %s to %s: %w", from, to, err)
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	good, buf := 0, make([]byte, size+1)
	for i := range count {
		if ctx.Err() != nil {
			return good, ctx.Err()
		}
		out := noise(uint64(i), size)
		if _, err := c.Write(out); err != nil {
			return good, fmt.Errorf("send UDP from %s to %s: %w", from, to, err)
		}
		if err := c.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			return good, fmt.Errorf("send UDP from %s to %s: %w", from, to, err)
		}
		if n, err := c.Read(buf); err == nil && bytes.Equal(buf[:n], out) {
			good++
		}
	}
	return good, nil
}

// TransferTCP sends size bytes to an echo server, reads them back, compares, and returns how long it took.
func (l *Lab) TransferTCP(ctx context.Context, ns *Namespace, from, to netip.Addr, size int) (time.Duration, error) {
	begin := time.Now()
	var c net.Conn
	err := ns.Run(func() (err error) {
		d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))}
		c, err = d.DialContext(ctx, "tcp", netip.AddrPortFrom(to, EchoPort).String())
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("transfer from %s to %s: %w", from, to, err)
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	out := noise(uint64(size), size)
	sent := make(chan error, 1)
	go func() {
		_, err := c.Write(out)
		sent <- errors.Join(err, c.(*net.TCPConn).CloseWrite())
	}()
	in, err := io.ReadAll(c)
	if err = errors.Join(err, <-sent); err != nil {
		return 0, fmt.Errorf("transfer from %s to %s: %w", from, to, err)
	}
	if !bytes.Equal(in, out) {
		return 0, fmt.Errorf("transfer from %s to %s: %d of %d bytes came back, or changed ones", from, to, len(in), len(out))
	}
	return time.Since(begin), nil
}

// noise is size bytes, the same for the same seed.
func noise(seed uint64, size int) []byte {
	r := rand.New(rand.NewPCG(seed, 7))
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}
