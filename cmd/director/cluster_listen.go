package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
)

// bindError says in which field an address is that cannot be listened on, and what to do about it.
func bindError(field string, a netip.AddrPort, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%s: %s is no address of this machine; write one of those that `ip -br address` lists: %w", field, a.Addr(), err)
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%s: another process listens on %s; stop it (`ss -lnptu` names it), or write another port: %w", field, a, err)
	}
	return fmt.Errorf("%s: listen on %s: %w", field, a, err)
}

// listenStreams listens for streams of other directors.
func listenStreams(a netip.AddrPort) (net.Listener, error) {
	l, err := net.Listen("tcp", a.String())
	if err != nil {
		return nil, bindError("cluster.listen", a, err)
	}
	return l, nil
}

// listenBeats takes the socket of the path of an index.
func listenBeats(i int, a netip.AddrPort) (net.PacketConn, error) {
	conn, err := net.ListenPacket("udp", a.String())
	if err != nil {
		return nil, bindError(fmt.Sprintf("cluster.heartbeat[%d]", i), a, err)
	}
	return conn, nil
}

// gossipFree tells whether gossip could listen on an address, over TCP and UDP.
func gossipFree(a netip.AddrPort) error {
	var c net.ListenConfig
	l, err := c.Listen(context.Background(), "tcp", a.String())
	if err != nil {
		return bindError("cluster.gossip", a, err)
	}
	u, err := c.ListenPacket(context.Background(), "udp", a.String())
	if err = errors.Join(err, l.Close()); err != nil {
		return bindError("cluster.gossip", a, err)
	}
	return u.Close()
}

// sameCluster refuses a name of a cluster that is not that in the certificate; a node's file need not say one.
func sameCluster(said, certified string) error {
	if said != "" && said != certified {
		return fmt.Errorf("cluster.name: is %q, and the certificate in cluster.tls is one of cluster %q; write that name, or take certificates of %q", said, certified, said)
	}
	return nil
}
