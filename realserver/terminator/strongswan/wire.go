package strongswan

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Elements of a message and types of a packet (strongSwan, src/libcharon/plugins/vici/README.md, vici_message.h, vici_socket.h).
const (
	sectionStart = iota + 1
	sectionEnd
	keyValue
	listStart
	listItem
	listEnd
)

const (
	cmdRequest = iota
	cmdResponse
	cmdUnknown
	eventRegister
	eventUnregister
	eventConfirm
	eventUnknown
	event
)

const (
	maxPacket = 512 << 10 // charon's own bound
	maxDepth  = 8
)

var errNonsense = errors.New("what it says is not VICI")

// A message is an encoded one, or a part of it; its methods append.
type message []byte

func (m message) value(key, value string) message {
	m = append(append(m, keyValue, byte(len(key))), key...)
	return append(binary.BigEndian.AppendUint16(m, uint16(len(value))), value...)
}

// list appends a list; an empty one is left out, so that charon takes its default.
func (m message) list(key string, items ...string) message {
	if len(items) == 0 {
		return m
	}
	m = append(append(m, listStart, byte(len(key))), key...)
	for _, i := range items {
		m = append(binary.BigEndian.AppendUint16(append(m, listItem), uint16(len(i))), i...)
	}
	return append(m, listEnd)
}

func (m message) section(name string, inner message) message {
	m = append(append(m, sectionStart, byte(len(name))), name...)
	return append(append(m, inner...), sectionEnd)
}

// Sections are the names of the sections around a value, outermost first. They and values are of use during the call alone.
type sections [][]byte

// each calls f for every value of a message and every item of its lists, which have the list's name as key, in their order.
func (m message) each(f func(at sections, key, value []byte) error) error {
	r := reader{rest: m}
	at := make(sections, 0, 4) // as many as SAs have
	for len(r.rest) > 0 {
		switch kind := r.byte(); kind {
		case sectionStart:
			at = append(at, r.take(int(r.byte())))
			if len(at) > maxDepth {
				return fmt.Errorf("%w: sections within sections", errNonsense)
			}
		case sectionEnd:
			if len(at) == 0 {
				return fmt.Errorf("%w: the end of no section", errNonsense)
			}
			at = at[:len(at)-1]
		case keyValue:
			key := r.take(int(r.byte()))
			value := r.take(r.length())
			if err := r.emit(f, at, key, value); err != nil {
				return err
			}
		case listStart:
			if err := r.items(f, at, r.take(int(r.byte()))); err != nil {
				return err
			}
		default:
			return fmt.Errorf("%w: element %d", errNonsense, kind)
		}
		if r.short {
			return fmt.Errorf("%w: half a message", errNonsense)
		}
	}
	if len(at) > 0 {
		return fmt.Errorf("%w: half a section", errNonsense)
	}
	return nil
}

// A reader takes a message apart. When there is less than is asked for it is short from then on, and gives nothing.
type reader struct {
	rest  []byte
	short bool
}

func (r *reader) take(n int) []byte {
	if r.short = r.short || n > len(r.rest); r.short {
		r.rest = nil
		return nil
	}
	var b []byte
	b, r.rest = r.rest[:n], r.rest[n:]
	return b
}

func (r *reader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) length() int {
	if b := r.take(2); b != nil {
		return int(binary.BigEndian.Uint16(b))
	}
	return 0
}

func (r *reader) emit(f func(sections, []byte, []byte) error, at sections, key, value []byte) error {
	if r.short {
		return nil // the caller sees it
	}
	return f(at, key, value)
}

func (r *reader) items(f func(sections, []byte, []byte) error, at sections, key []byte) error {
	for !r.short {
		switch kind := r.byte(); {
		case r.short || kind == listEnd:
			return nil
		case kind != listItem:
			return fmt.Errorf("%w: element %d in a list", errNonsense, kind)
		}
		if err := r.emit(f, at, key, r.take(r.length())); err != nil {
			return err
		}
	}
	return nil
}
