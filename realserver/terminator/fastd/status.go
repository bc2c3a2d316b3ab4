package fastd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"tunneldirector/realserver/terminator"
)

const (
	// patience bounds a question whose context does not.
	patience = 10 * time.Second
	// maxStatus bounds the document: it has some 350 bytes a peer, and more for each MAC address behind it.
	maxStatus = 64 << 20
)

// A status is what fastd writes to whoever connects, as far as it matters (fastd's src/status.c).
type status struct {
	Interface iface `json:"interface"`
	Peers     roll  `json:"peers"`

	pid int // who writes it; 0: not known
}

// A roll is the peers by key; disabled ones are not there.
type roll struct {
	all  map[string]peer             // nil: what was said has no peers
	each func(key []byte, has *peer) // takes them instead, each good until it returns; nil: all has them
}

func (r *roll) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	if begin, err := dec.ReadToken(); err != nil || begin.Kind() != '{' {
		return cmp.Or(err, errors.New("its peers are no object"))
	}
	r.all = map[string]peer{}
	var key []byte
	for dec.PeekKind() != '}' {
		name, err := dec.ReadValue()
		if err != nil {
			return err
		}
		if key, err = jsontext.AppendUnquote(key[:0], name); err != nil {
			return err
		}
		var p peer
		if err := json.UnmarshalDecode(dec, &p); err != nil {
			return err
		}
		if r.each != nil {
			r.each(key, &p)
		} else {
			r.all[string(key)] = p
		}
	}
	_, err := dec.ReadToken()
	return err
}

type peer struct {
	Name       string      `json:"name"`
	Address    string      `json:"address"`
	Interface  iface       `json:"interface"` // where peers have one each
	Connection *connection `json:"connection"`
}

type connection struct {
	Established int64 `json:"established"` // ms
	Statistics  struct {
		Rx count `json:"rx"`
		Tx count `json:"tx"`
	} `json:"statistics"`
}

type count struct {
	Bytes uint64 `json:"bytes"`
}

// An iface is a device's name, which fastd up to 22 writes as an object.
type iface string

func (i *iface) UnmarshalJSON(b []byte) error {
	var object struct {
		Name string `json:"name"`
	}
	var name string
	if len(b) > 0 && b[0] == '{' {
		err := json.Unmarshal(b, &object)
		*i = iface(object.Name)
		return err
	}
	err := json.Unmarshal(b, &name)
	*i = iface(name)
	return err
}

// endpoint is where the peer is; false if that is not known ("any").
func (p *peer) endpoint() (netip.AddrPort, bool) {
	at, err := netip.ParseAddrPort(p.Address)
	if err != nil || !at.IsValid() {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port()), true
}

// devices are all that fastd has: its own and those of peers.
func (s *status) devices(found map[string]bool) []string {
	found[string(s.Interface)] = true
	delete(found, "")
	return slices.Sorted(maps.Keys(found))
}

// status asks fastd. each takes the peers; nil: they are in the status.
func (t *Terminator) status(ctx context.Context, each func([]byte, *peer)) (*status, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", t.opts.Socket)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
			return nil, fmt.Errorf("ask fastd: %w: %w", err, terminator.ErrGone)
		}
		return nil, fmt.Errorf("ask fastd: %w", err)
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })()
	s, err := parse(c, each)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx) // and not that a deadline passed which nobody asked for
	}
	if err == nil {
		s.pid, err = listener(c.(*net.UnixConn))
	}
	if err != nil {
		return nil, fmt.Errorf("ask fastd at %s: %w", t.opts.Socket, err)
	}
	return s, nil
}

// parse reads one document and the end after it.
func parse(r io.Reader, each func([]byte, *peer)) (*status, error) {
	limited := &io.LimitedReader{R: r, N: maxStatus + 1}
	s := status{Peers: roll{each: each}}
	// Peers are named by files, whose names are bytes. That names differ is not looked for: fastd's do, and it takes a set of them.
	err := json.UnmarshalRead(limited, &s, jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(true))
	switch {
	case limited.N <= 0:
		return nil, fmt.Errorf("its status has more than %d bytes", maxStatus)
	case err != nil:
		return nil, fmt.Errorf("its status cannot be read: %w", err)
	case s.Peers.all == nil:
		return nil, errors.New("what it says is not a status: it has no peers")
	}
	return &s, nil
}
