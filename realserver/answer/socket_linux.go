package answer

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"tunneldirector/director/agent"
	"tunneldirector/realserver/space"
)

// An identity is what tells a namespace from all others that there are now.
type identity struct{ dev, ino uint64 }

func identify(s space.Space) (id identity, err error) {
	err = s.Do(func() error { id, err = here(); return err })
	return id, err
}

func here() (identity, error) {
	var st unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &st); err != nil {
		return identity{}, fmt.Errorf("own network namespace: %w", err)
	}
	return identity{st.Dev, st.Ino}, nil
}

// receiveBuffer is some 50 questions: at DefaultRate none waits for longer than a prober does.
const receiveBuffer = 64 << 10

// listen opens a socket at an address that the host need not have.
func listen(s space.Space, at netip.AddrPort) (c *net.UDPConn, in identity, err error) {
	network := "udp4"
	if at.Addr().Is6() {
		network = "udp6"
	}
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		return errors.Join(raw.Control(func(fd uintptr) { err = prepare(int(fd), at.Addr().Is6()) }), err)
	}}
	err = s.Do(func() error {
		var err error
		if in, err = here(); err != nil {
			return err
		}
		p, err := lc.ListenPacket(context.Background(), network, at.String())
		if err != nil {
			return err
		}
		c = p.(*net.UDPConn)
		return nil
	})
	return c, in, err
}

// prepare is before bind, so that nothing gets past the filter.
func prepare(fd int, is6 bool) error {
	level, freebind, info := unix.SOL_IP, unix.IP_FREEBIND, unix.IP_PKTINFO
	if is6 {
		level, freebind, info = unix.SOL_IPV6, unix.IPV6_FREEBIND, unix.IPV6_RECVPKTINFO
	}
	prog, err := filter(is6)
	if err != nil {
		return err
	}
	for _, o := range []struct {
		name              string
		level, opt, value int
	}{
		{"IP_FREEBIND", level, freebind, 1},
		{"IP_PKTINFO", level, info, 1},
		{"SO_RCVBUF", unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer / 2}, // the kernel doubles it
		{"SO_RXQ_OVFL", unix.SOL_SOCKET, unix.SO_RXQ_OVFL, 1},
	} {
		if err := unix.SetsockoptInt(fd, o.level, o.opt, o.value); err != nil {
			return fmt.Errorf("set %s: %w", o.name, err)
		}
	}
	code := make([]unix.SockFilter, len(prog))
	for n, i := range prog {
		code[n] = unix.SockFilter{Code: i.Op, Jt: i.Jt, Jf: i.Jf, K: i.K}
	}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}); err != nil {
		return fmt.Errorf("attach the filter of probes: %w", err)
	}
	return nil
}

// filter lets through what may be a question. What it sees begins with the UDP header; networkHeader is where IP's begins
// (SKF_NET_OFF of linux/filter.h).
func filter(is6 bool) ([]bpf.RawInstruction, error) {
	const networkHeader, udpHeader = 0xfff00000, 8
	ttl := uint32(networkHeader + 8)
	if is6 {
		ttl = networkHeader + 7
	}
	magic := binary.BigEndian.Uint32(agent.AppendProbe(nil, agent.Nonce{}, ""))
	return bpf.Assemble([]bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtLen},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: udpHeader + agent.ProbeSize, SkipTrue: 5},
		bpf.LoadAbsolute{Off: udpHeader, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: magic, SkipTrue: 3},
		bpf.LoadAbsolute{Off: ttl, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: agent.ProbeTTL, SkipTrue: 1},
		bpf.RetConstant{Val: 0xffff},
		bpf.RetConstant{Val: 0},
	})
}

// read waits for a question.
func (p *port) read(b []byte) (q question, err error) {
	n, oobn, _, from, err := p.conn.ReadMsgUDPAddrPort(b, p.oob[:])
	if err != nil {
		return q, err
	}
	q = question{n: n, from: from, drops: p.drops}
	for oob := p.oob[:oobn]; len(oob) > 0; {
		h, data, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			break
		}
		switch oob = rest; {
		case h.Level == unix.SOL_IP && h.Type == unix.IP_PKTINFO && len(data) >= 4:
			q.device = p.device(binary.NativeEndian.Uint32(data))
		case h.Level == unix.SOL_IPV6 && h.Type == unix.IPV6_PKTINFO && len(data) >= 20:
			q.device = p.device(binary.NativeEndian.Uint32(data[16:]))
		case h.Level == unix.SOL_SOCKET && h.Type == unix.SO_RXQ_OVFL && len(data) >= 4:
			q.drops = binary.NativeEndian.Uint32(data)
		}
	}
	return q, nil
}

// device is the name of an interface in the socket's namespace, asked each time, as a device may be made anew; "" if there
// is none.
func (p *port) device(index uint32) (name string) {
	ifr, err := unix.NewIfreq("lo") // any name: the index is what counts
	if err != nil {
		return ""
	}
	ifr.SetUint32(index)
	raw, err := p.conn.SyscallConn()
	if err != nil {
		return ""
	}
	_ = raw.Control(func(fd uintptr) {
		if unix.IoctlIfreq(int(fd), unix.SIOCGIFNAME, ifr) == nil {
			name = ifr.Name()
		}
	})
	return name
}
