package affinity

import (
	"errors"
	"fmt"
	"net/netip"
	"unicode/utf8"

	"github.com/fxamacker/cbor/v2"
)

// Records are CBOR (RFC 8949) in its core deterministic encoding: equal records are equal bytes, so digests can be
// taken over them. Fields are integer keys, addresses and prefixes the binary form of package netip.

// Limits of a record's encoding. Encode refuses what Decode would.
const (
	maxEncoded  = 64 << 10 // bytes
	maxElements = 4096     // of a list
	maxPairs    = 1024     // of a map
	maxNesting  = 4        // record, list, element and one to spare
)

// ErrNewerFormat is wrapped by the error for a record that a newer version wrote.
var ErrNewerFormat = errors.New("written by a newer version")

// The modes are immutable and safe for concurrent use.
var encMode, decMode = mustModes()

func mustModes() (cbor.EncMode, cbor.DecMode) {
	enc, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		panic(err) // constant options
	}
	dec, err := cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		MaxNestedLevels:   maxNesting,
		MaxArrayElements:  maxElements,
		MaxMapPairs:       maxPairs,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
	}.DecMode()
	if err != nil {
		panic(err) // constant options
	}
	return enc, dec
}

// Encode gives s as bytes. The header's Format is written as this program's, whatever s says.
func (s *Service) Encode() ([]byte, error) {
	c := *s
	return encode(KindService, c.Name, &c.Header, &c, c.wellFormed())
}

// DecodeService reads what Encode wrote.
func DecodeService(b []byte) (*Service, error) {
	s := new(Service)
	return decode(KindService, b, s, &s.Header, s.wellFormed)
}

// Encode gives t as bytes, as Service.Encode does.
func (t *Tenant) Encode() ([]byte, error) {
	c := *t
	return encode(KindTenant, c.Name, &c.Header, &c, c.wellFormed())
}

// DecodeTenant reads what Encode wrote.
func DecodeTenant(b []byte) (*Tenant, error) {
	t := new(Tenant)
	return decode(KindTenant, b, t, &t.Header, t.wellFormed)
}

// Encode gives r as bytes, as Service.Encode does.
func (r *RealServer) Encode() ([]byte, error) {
	c := *r
	return encode(KindRealServer, c.Name, &c.Header, &c, c.wellFormed())
}

// DecodeRealServer reads what Encode wrote.
func DecodeRealServer(b []byte) (*RealServer, error) {
	r := new(RealServer)
	return decode(KindRealServer, b, r, &r.Header, r.wellFormed)
}

// Encode gives l as bytes, as Service.Encode does.
func (l *Life) Encode() ([]byte, error) {
	c := *l
	return encode(KindLife, c.RealServer, &c.Header, &c, c.wellFormed())
}

// DecodeLife reads what Encode wrote.
func DecodeLife(b []byte) (*Life, error) {
	l := new(Life)
	return decode(KindLife, b, l, &l.Header, l.wellFormed)
}

// Encode gives t as bytes, as Service.Encode does.
func (t *Tunnel) Encode() ([]byte, error) {
	c := *t
	return encode(KindTunnel, c.ID, &c.Header, &c, c.wellFormed())
}

// DecodeTunnel reads what Encode wrote.
func DecodeTunnel(b []byte) (*Tunnel, error) {
	t := new(Tunnel)
	return decode(KindTunnel, b, t, &t.Header, t.wellFormed)
}

// Encode gives p as bytes, as Service.Encode does.
func (p *Pin) Encode() ([]byte, error) {
	c := *p
	return encode(KindPin, string(c.Group), &c.Header, &c, c.wellFormed())
}

// DecodePin reads what Encode wrote.
func DecodePin(b []byte) (*Pin, error) {
	p := new(Pin)
	return decode(KindPin, b, p, &p.Header, p.wellFormed)
}

func encode(k Kind, id string, h *Header, rec any, bad error) ([]byte, error) {
	if bad != nil {
		return nil, fmt.Errorf("encode %s %q: %w", k, id, bad)
	}
	h.Format = Format
	b, err := encMode.Marshal(rec)
	if err != nil {
		return nil, fmt.Errorf("encode %s %q: %w", k, id, err)
	}
	if len(b) > maxEncoded {
		return nil, fmt.Errorf("encode %s %q: %d bytes, the limit is %d; give it fewer endpoints, subnets or labels", k, id, len(b), maxEncoded)
	}
	return b, nil
}

func decode[T any](k Kind, b []byte, rec *T, h *Header, wellFormed func() error) (*T, error) {
	if len(b) > maxEncoded {
		return nil, fmt.Errorf("decode %s: %d bytes, the limit is %d", k, len(b), maxEncoded)
	}
	err := decMode.Unmarshal(b, rec)
	format := uint64(h.Format)
	if err != nil {
		format = peekFormat(b)
	}
	switch {
	case format > Format:
		return nil, fmt.Errorf("decode %s: format %d, this program reads up to %d: %w; upgrade this director", k, format, Format, ErrNewerFormat)
	case err != nil:
		return nil, fmt.Errorf("decode %s: %w", k, err)
	case format == 0:
		return nil, fmt.Errorf("decode %s: the header names no format", k)
	}
	if err := wellFormed(); err != nil {
		return nil, fmt.Errorf("decode %s: %w", k, err)
	}
	return rec, nil
}

// unpackHeader reads the header alone of a record that was encoded here or checked by Restore: a small part of the work.
func unpackHeader(packed string) Header {
	var rec struct {
		Header Header `cbor:"1,keyasint"`
	}
	if err := cbor.Unmarshal([]byte(packed), &rec); err != nil {
		panic(fmt.Sprintf("decode header: %v", err))
	}
	return rec.Header
}

// peekFormat finds the format in a record that could not be read as this format's; 0 if there is none.
// Newer formats may add fields to the record and to the end of the header.
func peekFormat(b []byte) uint64 {
	var rec struct {
		Header cbor.RawMessage `cbor:"1,keyasint"`
	}
	if cbor.Unmarshal(b, &rec) != nil {
		return 0
	}
	var header []cbor.RawMessage
	if cbor.Unmarshal(rec.Header, &header) != nil || len(header) < 5 {
		return 0
	}
	var format uint64
	if cbor.Unmarshal(header[4], &format) != nil {
		return 0
	}
	return format
}

// What follows is the least that the rest of the program may take for granted of any record, wherever it came from:
// known enumerations, valid addresses, text that is text. What a record means is checked elsewhere.

func (s *Service) wellFormed() error {
	return errors.Join(
		text("header.origin", s.Header.Origin), text("name", s.Name),
		word("method", s.Method, methodWords), word("unknown", s.Unknown, unknownWords), word("policy", s.Policy, policyWords),
		count("match", len(s.Match), maxElements), valid("vips", s.VIPs), prefers(s.Prefer))
}

func (t *Tenant) wellFormed() error {
	return errors.Join(text("header.origin", t.Header.Origin), text("name", t.Name), valid("covers", t.Covers), valid("gateways", t.Gateways), prefers(t.Prefer))
}

func (r *RealServer) wellFormed() error {
	return errors.Join(
		text("header.origin", r.Header.Origin), text("name", r.Name), text("host", r.Host), text("zone", r.Zone),
		texts("services", r.Services), word("admin", r.Admin, adminWords), valid("addrs", r.Addrs),
		pairs("vlans", r.VLANs))
}

func (l *Life) wellFormed() error {
	return errors.Join(
		text("header.origin", l.Header.Origin), text("realServer", l.RealServer), text("cause", l.Cause), index("index", l.Index))
}

func (t *Tunnel) wellFormed() error {
	err := errors.Join(
		text("header.origin", t.Header.Origin), text("id", t.ID), text("service", t.Service), text("owner", t.Owner),
		text("group", t.Group), text("tenant", t.Tenant), texts("separate_from", t.SeparateFrom),
		word("state", t.State, stateWords), valid("endpoints", t.Endpoints), valid("subnets", t.Subnets), valid("roamed", t.Roamed),
		pairs("labels", t.Labels))
	for _, v := range t.Labels {
		err = errors.Join(err, text("labels", v))
	}
	return err
}

func (p *Pin) wellFormed() error {
	err := errors.Join(
		text("header.origin", p.Header.Origin), text("group", string(p.Group)), text("note", p.Note),
		index("primary", p.Primary), index("backup", p.Backup))
	if p.Why > WhyUnplaced {
		err = errors.Join(err, fmt.Errorf("why: %d is not known", p.Why))
	}
	return err
}

func text(field, s string) error {
	if !utf8.ValidString(s) {
		return fmt.Errorf("%s: %q is not UTF-8", field, s)
	}
	return nil
}

func texts(field string, l []string) error {
	for _, s := range l {
		if err := text(field, s); err != nil {
			return err
		}
	}
	return count(field, len(l), maxElements)
}

func pairs[V any](field string, m map[string]V) error {
	for k := range m {
		if err := text(field, k); err != nil {
			return err
		}
	}
	return count(field, len(m), maxPairs)
}

func prefers(m map[netip.Addr][]string) error {
	for a, names := range m {
		if err := errors.Join(valid("prefer", []netip.Addr{a}), texts("prefer", names)); err != nil {
			return err
		}
	}
	return count("prefer", len(m), maxPairs)
}

func count(field string, n, limit int) error {
	if n > limit {
		return fmt.Errorf("%s: %d of them, the limit is %d", field, n, limit)
	}
	return nil
}

func word[T ~uint8](field string, v T, words []string) error {
	if int(v) >= len(words) {
		return fmt.Errorf("%s: %d is not known", field, v)
	}
	return nil
}

func index(field string, i Index) error {
	if i > MaxIndex {
		return fmt.Errorf("%s: %d is above %d", field, i, MaxIndex)
	}
	return nil
}

func valid[T interface {
	IsValid() bool
	comparable
}](field string, l []T) error {
	for i, v := range l {
		if !v.IsValid() {
			return fmt.Errorf("%s[%d]: %v is not valid", field, i, v)
		}
	}
	return count(field, len(l), maxElements)
}
