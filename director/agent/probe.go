package agent

import (
	"bytes"
	"encoding/binary"
	"errors"
	"unicode/utf8"
)

// A Probe is asked by a director on the data path: one UDP datagram of ProbeSize bytes to a VIP, through a real server.
//
//	 0  "TDp1"
//	 4  nonce, 16 bytes, random in each question
//	20  length of the real server's name, 1 byte, and the name
//	    zeros up to ProbeSize
//
// The Answer has the same size, so that nobody gains by a forged source, and is
//
//	 0  "TDa1"
//	 4  the nonce
//	20  health, 1 byte
//	21  flags, 1 byte: 1 full, 2 closed, 4 it came another way than its forwarding method's
//	22  tunnels established, 4 bytes, big-endian
//	26  length and name of the real server that answers
//	    zeros
//
// A name is valid UTF-8, of at most 128 bytes as in the table.
//
// A Probe is sent with a TTL, or hop limit, of ProbeTTL, and with another one it is not answered (RFC 5082): a router takes one
// off, a director too, so that no site's packet has it. Under method tunnel it is the inner header's, which nobody changes.
const ProbeSize = 160

// ProbeTTL is what a Probe arrives with.
const ProbeTTL = 255

const (
	probeMagic  = "TDp1"
	answerMagic = "TDa1"
	maxName     = 128
)

// A Nonce ties an answer to its question.
type Nonce [16]byte

// An Answer is what a real server's agent says on the data path.
type Answer struct {
	Nonce      Nonce
	Health     Health
	Full       bool
	Closed     bool
	WrongWay   bool // it came to the VIP, but not by the forwarding method that the host is prepared for
	Tunnels    uint32
	RealServer string
}

var errProbe = errors.New("not a probe, or not one of this format")

// AppendProbe appends a question for a real server. A name that no real server can have, for its length, is cut, and then nobody's.
func AppendProbe(b []byte, n Nonce, realServer string) []byte {
	out := make([]byte, ProbeSize)
	copy(out, probeMagic)
	copy(out[4:], n[:])
	putName(out[20:], realServer)
	return append(b, out...)
}

// ParseProbe reads a question.
func ParseProbe(b []byte) (n Nonce, realServer string, err error) {
	if len(b) != ProbeSize || string(b[:4]) != probeMagic {
		return n, "", errProbe
	}
	realServer, ok := name(b[20:])
	if !ok {
		return n, "", errProbe
	}
	return Nonce(b[4:20]), realServer, nil
}

// Append appends the answer's datagram.
func (a Answer) Append(b []byte) []byte {
	out := make([]byte, ProbeSize)
	copy(out, answerMagic)
	copy(out[4:], a.Nonce[:])
	out[20] = byte(a.Health)
	for i, set := range []bool{a.Full, a.Closed, a.WrongWay} {
		if set {
			out[21] |= 1 << i
		}
	}
	binary.BigEndian.PutUint32(out[22:], a.Tunnels)
	putName(out[26:], a.RealServer)
	return append(b, out...)
}

// ParseAnswer reads an answer.
func ParseAnswer(b []byte) (Answer, error) {
	if len(b) != ProbeSize || string(b[:4]) != answerMagic || b[20] > byte(HealthDead) || b[21] > 7 {
		return Answer{}, errProbe
	}
	who, ok := name(b[26:])
	if !ok {
		return Answer{}, errProbe
	}
	return Answer{Nonce: Nonce(b[4:20]), Health: Health(b[20]), Full: b[21]&1 != 0, Closed: b[21]&2 != 0, WrongWay: b[21]&4 != 0,
		Tunnels: binary.BigEndian.Uint32(b[22:]), RealServer: who}, nil
}

func putName(b []byte, s string) {
	s = s[:min(len(s), maxName)]
	b[0] = byte(len(s))
	copy(b[1:], s)
}

func name(b []byte) (string, bool) {
	n := int(b[0])
	if n > maxName || len(bytes.Trim(b[1+n:], "\x00")) > 0 || !utf8.Valid(b[1:1+n]) {
		return "", false
	}
	return string(b[1 : 1+n]), true
}
