package fastd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
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

// A roll is the peers; disabled ones are not there.
type roll struct {
	there bool                        // what was said has peers, if none
	each  func(key []byte, has *peer) // takes them, each good until it returns
}

// UnmarshalJSONFrom reads peers by their members. By their types, as all else is read, it takes twice the time, and 10,000 of them are
// most of what an agent does at rest.
func (r *roll) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	var p peer
	var key []byte
	r.there = true
	return members(dec, func(name jsontext.Value) error {
		key = unquoted(key[:0], name)
		if err := p.read(dec); err != nil {
			return err
		}
		r.each(key, &p)
		return nil
	})
}

type peer struct {
	Name       []byte
	Address    []byte
	Interface  iface // where peers have one each
	Connected  bool  // Connection is one
	Connection connection
}

type connection struct {
	Established int64  // ms
	Rx, Tx      uint64 // bytes
}

// read makes p the peer that comes next; it goes on using p's memory.
func (p *peer) read(dec *jsontext.Decoder) error {
	*p = peer{Name: p.Name[:0], Address: p.Address[:0]}
	return members(dec, func(name jsontext.Value) (err error) {
		switch string(name) {
		case `"name"`:
			p.Name, err = text(dec, p.Name)
		case `"address"`:
			p.Address, err = text(dec, p.Address)
		case `"interface"`:
			err = p.Interface.UnmarshalJSONFrom(dec)
		case `"connection"`:
			if p.Connected = dec.PeekKind() != 'n'; p.Connected {
				return p.Connection.read(dec)
			}
			err = dec.SkipValue()
		default:
			err = dec.SkipValue()
		}
		return err
	})
}

func (c *connection) read(dec *jsontext.Decoder) error {
	*c = connection{}
	return members(dec, func(name jsontext.Value) (err error) {
		switch string(name) {
		case `"established"`:
			var v jsontext.Value
			if v, err = dec.ReadValue(); err == nil {
				c.Established, err = strconv.ParseInt(string(v), 10, 64)
			}
		case `"statistics"`:
			err = c.count(dec)
		default:
			err = dec.SkipValue()
		}
		return err
	})
}

// count reads the counters.
func (c *connection) count(dec *jsontext.Decoder) error {
	return members(dec, func(name jsontext.Value) error {
		switch string(name) {
		case `"rx"`:
			return octets(dec, &c.Rx)
		case `"tx"`:
			return octets(dec, &c.Tx)
		}
		_, err := dec.ReadValue() // it is small, and so takes less than to be skipped part by part
		return err
	})
}

// octets reads the bytes of a counter.
func octets(dec *jsontext.Decoder, to *uint64) error {
	return members(dec, func(name jsontext.Value) error {
		ours := string(name) == `"bytes"`
		v, err := dec.ReadValue()
		if err == nil && ours {
			*to, err = strconv.ParseUint(string(v), 10, 64)
		}
		return err
	})
}

// members has f read each value of the object that comes next, by its name as it is written, in quotes; the name is good until then.
func members(dec *jsontext.Decoder, f func(name jsontext.Value) error) error {
	switch begin, err := dec.ReadToken(); {
	case err != nil:
		return err
	case begin.Kind() != '{':
		return fmt.Errorf("%v where an object is to be", begin.Kind())
	}
	for dec.PeekKind() != '}' {
		name, err := dec.ReadValue()
		if err == nil {
			err = f(name)
		}
		if err != nil {
			return err
		}
	}
	_, err := dec.ReadToken()
	return err
}

// text reads a string into memory that is there; null is an empty one.
func text(dec *jsontext.Decoder, to []byte) ([]byte, error) {
	v, err := dec.ReadValue()
	switch {
	case err != nil || v.Kind() == 'n':
		return to, err
	case v.Kind() != '"':
		return to, fmt.Errorf("%v where a text is to be", v.Kind())
	}
	return unquoted(to, v), nil
}

// unquoted appends a text that the decoder has read. That it is no UTF-8 is no fault.
func unquoted(to []byte, v jsontext.Value) []byte {
	to, _ = jsontext.AppendUnquote(to, v)
	return to
}

// An iface is a device's name, which fastd up to 22 writes as an object.
type iface string

func (i *iface) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	*i = ""
	read := func() error {
		b, err := text(dec, nil)
		*i = iface(b)
		return err
	}
	if dec.PeekKind() != '{' {
		return read()
	}
	return members(dec, func(name jsontext.Value) error {
		if string(name) == `"name"` {
			return read()
		}
		return dec.SkipValue()
	})
}

// endpoint is where the peer is; false if that is not known ("any").
func (p *peer) endpoint() (netip.AddrPort, bool) {
	at, err := netip.ParseAddrPort(string(p.Address))
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

// status asks fastd. each takes the peers.
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
	// The decoder reads 4 KiB at a time.
	buffered := bufio.NewReaderSize(limited, 16<<10)
	// Peers are named by files, whose names are bytes. That names differ is not looked for: fastd's do, and it takes a set of them.
	err := json.UnmarshalRead(buffered, &s, jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(true))
	switch {
	case limited.N <= 0:
		return nil, fmt.Errorf("its status has more than %d bytes", maxStatus)
	case err != nil:
		return nil, fmt.Errorf("its status cannot be read: %w", err)
	case !s.Peers.there:
		return nil, errors.New("what it says is not a status: it has no peers")
	}
	return &s, nil
}
