package inject

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"tunneldirector/director/plane"
)

// Of include/uapi/linux/ip_vs.h: what the generic netlink family IPVS knows about synchronisation daemons.
const (
	cmdNewDaemon = 9
	cmdDelDaemon = 10
	cmdGetDaemon = 11

	attrDaemon = 3 // nested

	daemonState     = 1
	daemonInterface = 2
	daemonSyncID    = 3
	daemonMaxLen    = 4
	daemonGroup     = 5
	daemonPort      = 7

	statePrimary = 1
	stateBackup  = 2

	familyVersion = 1
)

// A daemon is one of the two that a network namespace can have.
type daemon struct {
	state  uint32
	ifname string
	syncID uint32
}

// control talks to the family IPVS in the network namespace that it was opened in.
type control struct {
	family uint16
	socket *nl.SocketHandle
}

func openControl() (*control, error) {
	family, err := netlink.GenlFamilyGet("IPVS")
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil, fmt.Errorf("find IPVS in the kernel: no such netlink family; is module ip_vs loaded? %w", plane.ErrUnsupported)
	case err != nil:
		return nil, fmt.Errorf("find IPVS in the kernel: %w", err)
	}
	s, err := nl.Subscribe(unix.NETLINK_GENERIC)
	if err != nil {
		return nil, fmt.Errorf("open netlink for IPVS: %w", err)
	}
	return &control{family: family.ID, socket: &nl.SocketHandle{Socket: s}}, nil
}

func (c *control) Close() { c.socket.Close() }

func (c *control) request(command uint8, flags int) *nl.NetlinkRequest {
	r := nl.NewNetlinkRequest(int(c.family), flags)
	r.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_GENERIC: c.socket}
	r.AddData(&nl.Genlmsg{Command: command, Version: familyVersion})
	return r
}

// daemons reads which run.
func (c *control) daemons() ([]daemon, error) {
	answers, err := c.request(cmdGetDaemon, unix.NLM_F_DUMP).Execute(unix.NETLINK_GENERIC, 0)
	if err != nil {
		return nil, fmt.Errorf("read IPVS synchronisation daemons: %w", err)
	}
	var all []daemon
	for _, a := range answers {
		d, err := parseDaemon(a[min(nl.SizeofGenlmsg, len(a)):])
		if err != nil {
			return nil, fmt.Errorf("read IPVS synchronisation daemons: %w", err)
		}
		all = append(all, d)
	}
	return all, nil
}

func parseDaemon(b []byte) (d daemon, err error) {
	outer, err := nl.ParseRouteAttrAsMap(b)
	if err != nil {
		return d, err
	}
	inner, err := nl.ParseRouteAttrAsMap(outer[attrDaemon].Value)
	if err != nil {
		return d, err
	}
	state, id := inner[daemonState].Value, inner[daemonSyncID].Value
	if len(state) != 4 || len(id) != 4 {
		return d, fmt.Errorf("state of %d bytes, sync id of %d bytes", len(state), len(id))
	}
	order := nl.NativeEndian()
	return daemon{order.Uint32(state), nl.BytesToString(inner[daemonInterface].Value), order.Uint32(id)}, nil
}

// foreign tells of the first daemon that is not ours.
func foreign(all []daemon) error {
	for _, d := range all {
		if d.state == stateBackup && d.ifname == Interface {
			continue
		}
		kind := map[uint32]string{statePrimary: "sends", stateBackup: "receives"}[d.state]
		return fmt.Errorf("%w: it %s on interface %s with sync id %d (ipvsadm --list --daemon; keepalived: lvs_sync_daemon); stop it, or use plane xdp, which does not need it",
			ErrForeign, kind, d.ifname, d.syncID)
	}
	return nil
}

// start makes the kernel receive messages on our interface. It fails if a service has real servers of the other family.
func (c *control) start(o Options) error {
	d := daemon{stateBackup, Interface, uint32(o.SyncID)}
	r := c.change(cmdNewDaemon, d, nl.NewRtAttr(daemonMaxLen, nl.Uint16Attr(maxMessage)),
		nl.NewRtAttr(daemonGroup, o.Group.AsSlice()), nl.NewRtAttr(daemonPort, nl.Uint16Attr(o.Port)))
	if _, err := r.Execute(unix.NETLINK_GENERIC, 0); err != nil {
		return fmt.Errorf("start IPVS synchronisation daemon on %s: %w", Interface, err)
	}
	return nil
}

// stop ends our daemon after it has dealt with what it has received. No daemon is no error.
func (c *control) stop() error {
	left, err := c.remove(daemon{state: stateBackup})
	if err == nil && slices.ContainsFunc(left, func(d daemon) bool { return d.state == stateBackup }) {
		err = errors.New("it goes on")
	}
	if err != nil {
		return fmt.Errorf("stop IPVS synchronisation daemon on %s: %w", Interface, err)
	}
	return nil
}

// remove ends a daemon and reads which are left. It waits for no acknowledgement, because none comes if the daemon's thread
// had not run yet: kthread_stop's EINTR becomes the request's result, and netlink_rcv_skb does not answer that.
func (c *control) remove(d daemon) (left []daemon, err error) {
	r := c.change(cmdDelDaemon, d)
	r.Flags &^= unix.NLM_F_ACK
	r.Seq = atomic.AddUint32(&c.socket.Seq, 1) // an error that nobody waits for is not to be taken for another's
	if err := c.socket.Socket.Send(r); err != nil {
		return nil, err
	}
	return c.daemons()
}

func (c *control) change(command uint8, d daemon, more ...*nl.RtAttr) *nl.NetlinkRequest {
	attrs := nl.NewRtAttr(attrDaemon|unix.NLA_F_NESTED, nil)
	attrs.AddRtAttr(daemonState, nl.Uint32Attr(d.state))
	attrs.AddRtAttr(daemonInterface, nl.ZeroTerminated(d.ifname))
	attrs.AddRtAttr(daemonSyncID, nl.Uint32Attr(d.syncID))
	for _, a := range more {
		attrs.AddChild(a)
	}
	r := c.request(command, unix.NLM_F_ACK)
	r.AddData(attrs)
	return r
}
