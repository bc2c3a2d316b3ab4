package replica

import (
	"encoding/binary"
	"errors"
	"fmt"

	"tunneldirector/affinity"
)

// A frame is a length of four bytes, big-endian, then so many bytes: one of kind, and the body. Numbers in bodies are
// little-endian or varints. A frame of an unknown kind ends the connection unless mayIgnore is set in it.

// A kind says what a frame is. The values are on the wire: never renumber.
type kind byte

const (
	kindHello kind = iota + 1
	kindRefused
	kindPing
	kindDelta
	kindAck
	kindQuestion
	kindAnswer
	kindGroups
	kindSums
	kindLack
	kindEntries
	kindDiffer
	kindWant
	kindDone
	kinds

	mayIgnore kind = 0x80
)

var kindNames = [kinds]string{"other", "hello", "refused", "ping", "delta", "ack", "question", "answer", "groups", "sums", "lack", "entries", "differ", "want", "done"}

func (k kind) String() string {
	if k < kinds {
		return kindNames[k]
	}
	return fmt.Sprintf("kind %d", byte(k))
}

// Bounds of frames.
const (
	maxIgnored  = 2 << 20   // bytes of a frame that is skipped
	maxDelta    = 1 << 20   // of a Delta
	maxQuestion = 1 << 20   // of a Question or an Answer
	maxRound    = 128 << 10 // of any other
	maxKey      = 4096      // of a record's key
)

// limit is how long a body may be.
func (k kind) limit() int {
	switch {
	case k&mayIgnore != 0:
		return maxIgnored
	case k == kindDelta:
		return maxDelta
	case k == kindQuestion, k == kindAnswer:
		return maxQuestion
	}
	return maxRound
}

// A message is what a frame says.
type message interface {
	kind() kind
	append(b []byte) []byte // the body
}

type (
	ping struct{}
	// A delta is some records.
	delta struct {
		seq     uint64
		records []affinity.Change // Kind, Key and Value
	}
	ack      struct{ seq uint64 }
	question struct {
		id   uint64
		body []byte
	}
	answer struct {
		id     uint64
		failed bool // body is why
		body   []byte
	}
	done struct{}
)

func (ping) kind() kind     { return kindPing }
func (delta) kind() kind    { return kindDelta }
func (ack) kind() kind      { return kindAck }
func (question) kind() kind { return kindQuestion }
func (answer) kind() kind   { return kindAnswer }
func (done) kind() kind     { return kindDone }

func (ping) append(b []byte) []byte  { return b }
func (done) append(b []byte) []byte  { return b }
func (m ack) append(b []byte) []byte { return binary.AppendUvarint(b, m.seq) }
func (m question) append(b []byte) []byte {
	return append(binary.AppendUvarint(b, m.id), m.body...)
}

func (m answer) append(b []byte) []byte {
	return append(append(binary.AppendUvarint(b, m.id), flag(m.failed)), m.body...)
}

func (m delta) append(b []byte) []byte {
	b = binary.AppendUvarint(b, m.seq)
	for i := range m.records {
		c := &m.records[i]
		b = append(b, byte(c.Kind))
		b = append(binary.AppendUvarint(b, uint64(len(c.Key))), c.Key...)
		b = append(binary.AppendUvarint(b, uint64(len(c.Value))), c.Value...)
	}
	return b
}

// wireSize is about how many bytes a record has in a delta.
func wireSize(c *affinity.Change) int { return 5 + len(c.Key) + len(c.Value) }

func flag(on bool) byte {
	if on {
		return 1
	}
	return 0
}

// decode reads a body. What it returns may refer to it.
func decode(k kind, body []byte) (message, error) {
	r := &reader{b: body}
	var m message
	switch k {
	case kindHello:
		return decodeHello(body)
	case kindRefused:
		return decodeRefused(body)
	case kindPing:
		m = ping{}
	case kindDone:
		m = done{}
	case kindDelta:
		m = r.delta()
	case kindAck:
		m = ack{r.uvarint()}
	case kindQuestion:
		m = question{r.uvarint(), r.rest()}
	case kindAnswer:
		m = answer{r.uvarint(), r.flag(), r.rest()}
	case kindGroups:
		m = r.groups()
	case kindSums:
		m = r.sums()
	case kindLack:
		m = r.lack()
	case kindEntries:
		m = r.entries()
	case kindDiffer:
		m = r.differ()
	case kindWant:
		m = r.want()
	default:
		return nil, fmt.Errorf("a message of %v, which is not known to this version", k)
	}
	if r.bad || len(r.b) > 0 {
		return nil, fmt.Errorf("%v of %d bytes: %w", k, len(body), errGarbage)
	}
	return m, nil
}

// errGarbage says that bytes are not what they should be.
var errGarbage = errors.New("garbage")

// A reader takes a body apart. After a fault it is bad, and gives zeros.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) delta() delta {
	m := delta{seq: r.uvarint()}
	for len(r.b) > 0 && !r.bad {
		c := affinity.Change{Kind: affinity.Kind(r.byte())}
		c.Key = string(r.sized(maxKey))
		c.Value = r.sized(maxDelta)
		if len(c.Value) == 0 {
			r.bad = true
		}
		m.records = append(m.records, c)
	}
	return m
}

// take gives the next n bytes.
func (r *reader) take(n int) []byte {
	if r.bad || n < 0 || n > len(r.b) {
		r.bad, r.b = true, nil
		return nil
	}
	out := r.b[:n:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) rest() []byte { return r.take(len(r.b)) }

// sized gives bytes with their length before them.
func (r *reader) sized(limit int) []byte {
	n := r.uvarint()
	if n > uint64(limit) {
		r.bad = true
	}
	return r.take(int(min(n, maxDelta)))
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.bad, n = true, 0
		v = 0
	}
	r.take(n)
	return v
}

// number reads n bytes, little-endian.
func (r *reader) number(n int) uint64 {
	var v uint64
	for i, b := range r.take(n) {
		v |= uint64(b) << (8 * i)
	}
	return v
}

func (r *reader) byte() byte { return byte(r.number(1)) }

func (r *reader) flag() bool {
	f := r.byte()
	r.bad = r.bad || f > 1
	return f == 1
}

// appendNumber writes the lowest n bytes of v, little-endian.
func appendNumber(b []byte, v uint64, n int) []byte {
	for range n {
		b, v = append(b, byte(v)), v>>8
	}
	return b
}
