package xdp

import (
	"log/slog"

	"tunneldirector/director/plane"
)

// Defaults of Options.
const (
	DefaultPinPath = "/sys/fs/bpf/tunneldirector"
	defaultMax     = 2_000_000
)

// Options say where the plane works and how large it may become.
type Options struct {
	Interfaces []plane.Interface
	// PinPath is a directory in bpffs, or to be made there. Default: DefaultPinPath.
	PinPath string
	// MaxPins and MaxSubnets are the sizes of the endpoint and subnet tables, per family. Memory follows use, but for 16 bytes
	// an entry. Default: 2,000,000.
	MaxPins, MaxSubnets uint32
	// FixOffloads lets Open turn off LRO, and the stripping of VLAN tags where a tenant is told by its tag.
	FixOffloads bool
	// Logger is told of operator's events. Default: none.
	Logger *slog.Logger
}

func (o Options) withDefaults() Options {
	if o.PinPath == "" {
		o.PinPath = DefaultPinPath
	}
	if o.MaxPins == 0 {
		o.MaxPins = defaultMax
	}
	if o.MaxSubnets == 0 {
		o.MaxSubnets = defaultMax
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}
