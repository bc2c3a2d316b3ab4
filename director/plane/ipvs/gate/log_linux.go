package gate

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"tunneldirector/director/plane"
	"tunneldirector/director/vip/ruleset"
)

// Group is the NFLOG group of the gate's rules and of a watch's: "td" in ASCII. One program at a time can read a group.
const Group = 0x7464

// What is shown of packets, at most.
const (
	shownDrops   = 20  // a second, of each reason
	shownWatched = 200 // a second
	// snapshot is how much of a packet rules log, in bytes from the IP header on: that of a Sample, behind the headers of an ICMP
	// error that is about it.
	snapshot = plane.SampleBytes - ethernet + 40 + 8
)

// wordWatched is the word that a watch's rules log; the others log their reason.
const wordWatched = "watched"

// keptBytes is the buffer of the socket: some hundred packets wait in it for a reader.
const keptBytes = 512 << 10

// A Log shows packets of the network namespace of the thread that opened it: what the gate drops, and what a Watch fits. It reads
// messages of nfnetlink_log with mdlayher's netlink, and not with florianl's go-nflog: that stops to listen when its reader ends,
// and hides why a group cannot be had.
//
// Bind and Read are for one goroutine at a time; Watch and Close for any.
type Log struct {
	conn  *netlink.Conn
	bound bool
	watch *ruleset.Keeper
}

// OpenLog connects to the kernel. It changes nothing: Bind begins to listen.
func OpenLog() (*Log, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, fmt.Errorf("open the log of packets: %w", err)
	}
	// What does not fit is not shown, and no error.
	if err := errors.Join(conn.SetOption(netlink.NoENOBUFS, true), conn.SetReadBuffer(keptBytes)); err != nil {
		return nil, errors.Join(fmt.Errorf("open the log of packets: %w", err), conn.Close())
	}
	watch, err := openWatch()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the log of packets: %w", err), conn.Close())
	}
	return &Log{conn: conn, watch: watch}, nil
}

// Close lets go of the group and of the sockets. A watch ends in its time.
func (l *Log) Close() error { return errors.Join(l.conn.Close(), l.watch.Close()) }

// Numbers of linux/netfilter/nfnetlink_log.h.
const (
	messagePacket = unix.NFNL_SUBSYS_ULOG << 8
	messageConfig = unix.NFNL_SUBSYS_ULOG<<8 | 1

	configCommand = 1
	configMode    = 2
	configBuffer  = 3 // of one message
	commandBind   = 1
	modePacket    = 2
)

// Bind begins to listen to the group: what is logged from then on waits for Read. It fails while another program listens, and
// may be called again; once it has not failed it does nothing.
func (l *Log) Bind() error {
	if l.bound {
		return nil
	}
	if err := l.bind(); err != nil {
		return fmt.Errorf("listen to NFLOG group %d: %w", Group, err)
	}
	l.bound = true
	return nil
}

func (l *Log) bind() error {
	attrs, err := netlink.MarshalAttributes([]netlink.Attribute{
		{Type: configCommand, Data: []byte{commandBind}},
		{Type: configMode, Data: append(binary.BigEndian.AppendUint32(nil, snapshot), modePacket, 0)},
		{Type: configBuffer, Data: binary.BigEndian.AppendUint32(nil, 512)}, // each message has one packet, and the kernel a page for it else
	})
	if err != nil {
		return err
	}
	group := binary.BigEndian.AppendUint16([]byte{unix.AF_UNSPEC, unix.NFNETLINK_V0}, Group)
	_, err = l.conn.Send(netlink.Message{Header: netlink.Header{Type: messageConfig, Flags: netlink.Request | netlink.Acknowledge}, Data: append(group, attrs...)})
	if err != nil {
		return err
	}
	for { // the first packets may come before the answer, and are let go
		answers, err := l.conn.Receive()
		switch {
		case errors.Is(err, unix.EPERM), errors.Is(err, unix.EBUSY):
			return fmt.Errorf("%w: another program listens to it (its netlink port id is in /proc/net/netfilter/nfnetlink_log), or this one lacks CAP_NET_ADMIN", err)
		case errors.Is(err, unix.EINVAL):
			return fmt.Errorf("%w: the kernel lacks nfnetlink_log (%w)", plane.ErrUnsupported, err)
		case err != nil:
			return err
		}
		for _, a := range answers {
			if a.Header.Type == netlink.Error {
				return nil
			}
		}
	}
}

// Read calls f for each packet, until ctx ends, which is no error. A sample has no service, tenant or real server: the rules know
// none. One that fits a watch has neither side nor reason. One of an unknown endpoint that IPVS itself refused is known by the
// kernel's answer alone, so that it has neither an interface nor MAC addresses. One that would go back where it came from is shown as it
// would leave, with one hop less and, under tunnel, behind the outer header and that of a frame which is none; which side it is of is not said.
func (l *Log) Read(ctx context.Context, f func(plane.Sample)) error {
	ended := make(chan struct{})
	var deadline error
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		deadline = l.conn.SetReadDeadline(time.Unix(1, 0))
	})
	err := l.read(ctx, f)
	if !stop() {
		<-ended
		err = errors.Join(err, deadline, l.conn.SetReadDeadline(time.Time{}))
	}
	if err != nil {
		return fmt.Errorf("read NFLOG group %d: %w", Group, err)
	}
	return nil
}

func (l *Log) read(ctx context.Context, f func(plane.Sample)) error {
	for {
		messages, err := l.conn.Receive()
		if err != nil && ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		for _, m := range messages {
			if m.Header.Type != messagePacket {
				continue
			}
			if s, ok := l.sample(m.Data); ok {
				f(s)
			}
		}
	}
}
