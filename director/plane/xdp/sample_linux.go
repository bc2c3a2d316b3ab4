package xdp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"unsafe"

	"github.com/cilium/ebpf/ringbuf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
)

// Samples reads what the program puts into td_samples. How far it has been read is kept by the kernel with the pinned map, so
// that the next caller, of this Plane or of the next one, goes on from there. A full ring keeps the first samples, not the
// last.
func (p *Plane) Samples(ctx context.Context, f func(plane.Sample)) error {
	h, err := netlink.NewHandleAt(p.ns, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("read samples of packets: %w", err)
	}
	defer h.Close()
	r, err := ringbuf.NewReader(p.o.TdSamples)
	if err != nil {
		return fmt.Errorf("read samples of packets: %w", err)
	}
	defer r.Close()
	defer context.AfterFunc(ctx, func() { _ = r.Close() })() // it wakes the reader, and can lose nothing
	names := ifaceNames{ports: &p.ports, h: h, others: map[uint32]string{}}
	var record ringbuf.Record
	for ctx.Err() == nil {
		err := r.ReadInto(&record)
		if errors.Is(err, ringbuf.ErrClosed) && ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read samples of packets: %w", err)
		}
		s, err := decodeSample(record.RawSample, names.of)
		if err != nil {
			return err
		}
		f(s)
	}
	return nil
}

// decodeSample words a struct sample of types.h as package plane has it.
func decodeSample(raw []byte, name func(ifindex uint32) string) (plane.Sample, error) {
	var v forwardSample
	if len(raw) < int(unsafe.Sizeof(v)) {
		return plane.Sample{}, fmt.Errorf("decode a sample: it has %d bytes, and not %d", len(raw), unsafe.Sizeof(v))
	}
	// Many cores show many samples: encoding/binary would go through the head byte by byte.
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&v)), unsafe.Sizeof(v)), raw)
	at, err := monotonicTime(v.Ktime)
	if err != nil {
		return plane.Sample{}, err
	}
	return plane.Sample{
		At:         at,
		Interface:  name(v.Ifindex),
		Reason:     plane.Reason(v.Reason),
		Side:       plane.Side(v.Side),
		Service:    v.Service,
		Tenant:     v.Tenant,
		RealServer: affinity.Index(v.Index),
		Length:     int(v.Length),
		Head:       bytes.Clone(v.Head[:min(int(v.Captured), len(v.Head))]),
		Watched:    v.Watched != 0,
	}, nil
}

// ifaceNames finds the names of interfaces: the plane's own as they are now, others (it used them once) as they were when they
// were first asked for.
type ifaceNames struct {
	ports  *ports
	h      *netlink.Handle
	others map[uint32]string
}

// of is the name of an interface; "": it has gone.
func (n *ifaceNames) of(ifindex uint32) string {
	for _, i := range n.ports.all() {
		if uint32(i.index) == ifindex {
			return i.Name
		}
	}
	name, asked := n.others[ifindex]
	if !asked {
		if l, err := n.h.LinkByIndex(int(ifindex)); err == nil {
			name = l.Attrs().Name
		}
		n.others[ifindex] = name
	}
	return name
}

// Drops reads td_n_reason.
func (p *Plane) Drops() (map[plane.Reason]uint64, error) {
	drops := map[plane.Reason]uint64{}
	err := p.countReasons(func(_ uint16, r plane.Reason, n uint64) {
		if r.Drops() {
			drops[r] += n
		}
	})
	return drops, err
}
