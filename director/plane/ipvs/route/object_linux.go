package route

import (
	"errors"
	"iter"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// An object is a nexthop object of ours as the kernel tells it.
type object struct {
	id      uint32
	v6      bool
	members []uint32 // of a group
	hole    bool
	addr    netip.Addr
	encap   bool
	link    string
	index   int // of link
}

// nexthop is what a member stands for.
func (o object) nexthop() Nexthop {
	n := Nexthop{V6: o.v6, Blackhole: o.hole}
	switch {
	case o.hole, o.id == sink4, o.id == sink6:
		return n
	case o.encap:
		if n.Encap, n.Link = o.addr, o.link; o.link == tunnelName(o.v6) {
			n.Link = ""
		}
		return n
	}
	n.Gateway, n.Link = o.addr, o.link
	return n
}

// objects reads ours, in the order of ids. The kernel cannot filter them by protocol; nobody has very many. A cable that is
// pulled changes them while they are read: then they are read again, up to readings times.
func (t *Tables) objects() iter.Seq2[object, error] {
	return func(yield func(object, error) bool) {
		list, err := t.readObjects()
		for again := 1; again < readings && (errors.Is(err, ErrChanged) || errors.Is(err, netlink.ErrDumpInterrupted)); again++ {
			list, err = t.readObjects()
		}
		if err != nil {
			yield(object{}, err)
			return
		}
		for _, o := range list {
			if !yield(o, nil) {
				return
			}
		}
	}
}

const readings = 10

func (t *Tables) readObjects() (list []object, err error) {
	names := map[uint32]string{}
	links, err := t.links.LinkList()
	if err != nil {
		return nil, err
	}
	for _, l := range links {
		names[uint32(l.Attrs().Index)] = l.Attrs().Name
	}
	request := append(begin(nil, unix.RTM_GETNEXTHOP, 0), make([]byte, unix.SizeofNhmsg)...)
	err = t.read(request, func(kind uint16, body []byte) bool {
		if o, ok := parseObject(kind, body, names); ok {
			list = append(list, o)
		}
		return true
	})
	return list, err
}

// parseObject reads an RTM_NEWNEXTHOP; ok is false for one that is not ours.
func parseObject(kind uint16, body []byte, names map[uint32]string) (o object, ok bool) {
	if kind != unix.RTM_NEWNEXTHOP || len(body) < unix.SizeofNhmsg || body[2] != Protocol {
		return o, false
	}
	o.v6 = body[0] == unix.AF_INET6
	attributes(body[unix.SizeofNhmsg:], func(kind uint16, data []byte) {
		switch kind {
		case unix.NHA_ID:
			o.id = u32(data)
		case unix.NHA_GROUP:
			for ; len(data) >= sizeofNexthopItem; data = data[sizeofNexthopItem:] {
				o.members = append(o.members, u32(data))
			}
		case unix.NHA_BLACKHOLE:
			o.hole = true
		case unix.NHA_OIF:
			o.index, o.link = int(u32(data)), names[u32(data)]
		case unix.NHA_GATEWAY:
			o.addr = address(data)
		case unix.NHA_ENCAP:
			o.encap = true
			attributes(data, func(kind uint16, data []byte) {
				if kind == lwtunnelDst {
					o.addr = address(data)
				}
			})
		}
	})
	return o, true
}

// readHops learns which members there are.
func (t *Tables) readHops() error {
	for o, err := range t.objects() {
		if err != nil {
			return err
		}
		if o.id >= firstHop {
			t.hops[hop{o.v6, o.addr, o.encap, o.link}] = seat{o.id, o.index}
			t.nextHop = max(t.nextHop, o.id+1)
		}
	}
	return nil
}
