package inject

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
)

// Options say how a Link is made. Only Seal is needed.
type Options struct {
	// Seal must see to it that nothing can be sent out by the interface of this name (or by the one that will have it): what a
	// process of this host sends there to the group comes back on it, to the daemon. It is called when the interface is there and
	// before the daemon is.
	Seal func(ifname string) error
	// SyncID is what the daemon and the messages carry. Default: 84.
	SyncID uint8
	// Group and Port are where the messages go. The group is of 224.0.0.0/24: nothing forwards those, and they need no
	// address to be sent from. The port is one that takes a right to bind to, or any process could be there first, or
	// listen, too. Default: 224.0.0.84, port 884.
	Group netip.Addr
	Port  uint16
	// Logger is told of a Link that replaces one, and of losses made good. Default: none.
	Logger *slog.Logger
}

// Interface is the near end's name, by which a daemon is known to be ours.
const Interface = "td-sync"

// Defaults of Options. They are not the protocol's own, on which keepalived talks.
var defaults = Options{SyncID: 84, Group: netip.AddrFrom4([4]byte{224, 0, 0, 84}), Port: 884}

func (o Options) complete() (Options, error) {
	if o.SyncID == 0 {
		o.SyncID = defaults.SyncID
	}
	if !o.Group.IsValid() {
		o.Group = defaults.Group
	}
	if o.Port == 0 {
		o.Port = defaults.Port
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	switch {
	case o.Seal == nil:
		return o, errors.New("open the link to IPVS: no seal: whoever may send to its interface could redirect any tunnel")
	case o.Port >= firstOpenPort:
		return o, fmt.Errorf("open the link to IPVS: any process may bind to port %d; take one below %d", o.Port, firstOpenPort)
	case !localGroups.Contains(o.Group):
		return o, fmt.Errorf("open the link to IPVS: group %v is not of %v", o.Group, localGroups)
	}
	return o, nil
}

const firstOpenPort = 1024 // net.ipv4.ip_unprivileged_port_start

var localGroups = netip.MustParsePrefix("224.0.0.0/24")
