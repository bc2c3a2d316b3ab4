package affinity

// A Freeze stops automatic moves while people work: deaths are held, nothing is placed anew but new tunnels.
type Freeze struct {
	Header Header `cbor:"1,keyasint"`
	On     bool   `cbor:"2,keyasint"`
	By     string `cbor:"3,keyasint"`
}

// Encode gives f as bytes, as Service.Encode does.
func (f *Freeze) Encode() ([]byte, error) {
	c := *f
	return encode(KindFreeze, "", &c.Header, &c, text("by", c.By))
}

// DecodeFreeze reads what Encode wrote.
func DecodeFreeze(b []byte) (*Freeze, error) {
	f := new(Freeze)
	return decode(KindFreeze, b, f, &f.Header, func() error { return text("by", f.By) })
}

// FreezeKey is the key of the one Freeze.
const FreezeKey = "freeze"

// Freeze tells whether automatic moves are stopped.
func (t *Table) Freeze() Freeze { return t.freeze }

// SetFreeze stops automatic moves or allows them.
func (t *Table) SetFreeze(f Freeze) {
	packed, err := f.Encode()
	t.record(KindFreeze, FreezeKey, f.Header, packed, err)
	t.freeze = f
}
