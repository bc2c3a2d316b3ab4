package beat

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/fxamacker/cbor/v2"

	"tunneldirector/cluster"
)

// MaxSize is the most bytes a sealed heartbeat has: it must not be fragmented.
const MaxSize = 1400

// version is the first byte of what is sealed. Fields may be added to packet without another one: who does not know them skips them.
const version = 1

// maxName is the most bytes of a director's name.
const maxName = 200

// A newerError is said of heartbeats whose format is newer than this program's.
type newerError struct{ version byte }

func (e newerError) Error() string {
	return fmt.Sprintf("format %d of heartbeats is newer than this program's (%d)", e.version, version)
}

// The bits of packet.Flags.
const (
	ready = 1 << iota
	leaving
	hung
	sick
	assigns
	probes
	many
	full
)

// A packet is a beat on the wire, before it is sealed.
type packet struct {
	From      string `cbor:"1,keyasint"`
	Start     int64  `cbor:"2,keyasint"`
	Seq       uint64 `cbor:"3,keyasint"`
	Wall      int64  `cbor:"4,keyasint"` // Unix milliseconds
	Flags     uint32 `cbor:"5,keyasint"`
	ReadyFor  uint32 `cbor:"6,keyasint"`           // seconds; the longest is 136 years
	Unreached []byte `cbor:"7,keyasint,omitempty"` // four bytes a hash, big-endian
	Holds     []byte `cbor:"8,keyasint,omitempty"`
	Revision  uint64 `cbor:"9,keyasint"`
	Root      uint64 `cbor:"10,keyasint"`
	Echo      echo   `cbor:"11,keyasint"`
	Assigner  uint32 `cbor:"12,keyasint,omitempty"`
	Records   uint64 `cbor:"13,keyasint,omitempty"`
}

// An echo is a cluster.Echo on the wire.
type echo struct {
	_     struct{} `cbor:",toarray"`
	Of    uint32
	Start int64
	Seq   uint64
}

// fit leaves out of a beat what a datagram cannot carry.
func fit(b cluster.Beat) cluster.Beat {
	for _, list := range []*[]cluster.Hash{&b.Unreached, &b.Holds} {
		if len(*list) > cluster.MaxHashes {
			*list, b.Many = nil, true
		}
	}
	b.ReadyFor = min(max(b.ReadyFor.Truncate(time.Second), 0), math.MaxUint32*time.Second)
	return b
}

// encode makes the bytes to seal of a beat that fits.
func encode(b cluster.Beat) ([]byte, error) {
	p := packet{
		From: b.From, Start: b.Start, Seq: b.Seq, Wall: b.Wall.UnixMilli(), ReadyFor: uint32(b.ReadyFor / time.Second),
		Unreached: pack(b.Unreached), Holds: pack(b.Holds), Revision: b.Revision, Root: b.Root,
		Echo: echo{Of: uint32(b.Echo.Of), Start: b.Echo.Start, Seq: b.Echo.Seq}, Assigner: uint32(b.Assigner), Records: b.Records,
	}
	for bit, set := range flags(&b) {
		if *set {
			p.Flags |= bit
		}
	}
	body, err := cbor.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("encode heartbeat: %w", err)
	}
	return append([]byte{version}, body...), nil
}

// decode reads what was sealed.
func decode(data []byte) (cluster.Beat, error) {
	switch {
	case len(data) == 0:
		return cluster.Beat{}, errors.New("decode heartbeat: it is empty")
	case data[0] > version:
		return cluster.Beat{}, newerError{data[0]}
	case data[0] != version:
		return cluster.Beat{}, fmt.Errorf("decode heartbeat: there is no format %d", data[0])
	}
	var p packet
	if err := cbor.Unmarshal(data[1:], &p); err != nil {
		return cluster.Beat{}, fmt.Errorf("decode heartbeat: %w", err)
	}
	if p.From == "" || len(p.From) > maxName || len(p.Unreached)%4 != 0 || len(p.Holds)%4 != 0 {
		return cluster.Beat{}, errors.New("decode heartbeat: a field is out of range")
	}
	b := cluster.Beat{
		From: p.From, Start: p.Start, Seq: p.Seq, Wall: time.UnixMilli(p.Wall), ReadyFor: time.Duration(p.ReadyFor) * time.Second,
		Unreached: unpack(p.Unreached), Holds: unpack(p.Holds), Revision: p.Revision, Root: p.Root,
		Echo: cluster.Echo{Of: cluster.Hash(p.Echo.Of), Start: p.Echo.Start, Seq: p.Echo.Seq}, Assigner: cluster.Hash(p.Assigner), Records: p.Records,
	}
	for bit, set := range flags(&b) {
		*set = p.Flags&bit != 0
	}
	return b, nil
}

func flags(b *cluster.Beat) map[uint32]*bool {
	return map[uint32]*bool{
		ready: &b.Ready, leaving: &b.Leaving, hung: &b.Hung, sick: &b.Sick, assigns: &b.Assigns, probes: &b.Probes, many: &b.Many,
		full: &b.Full,
	}
}

func pack(list []cluster.Hash) []byte {
	var out []byte
	for _, h := range list {
		out = binary.BigEndian.AppendUint32(out, uint32(h))
	}
	return out
}

func unpack(data []byte) []cluster.Hash {
	var list []cluster.Hash
	for ; len(data) >= 4; data = data[4:] {
		list = append(list, cluster.Hash(binary.BigEndian.Uint32(data)))
	}
	return list
}
