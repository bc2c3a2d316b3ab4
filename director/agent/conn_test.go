package agent

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var compare = cmp.Options{
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	cmp.Comparer(func(a, b time.Time) bool { return a.Equal(b) }),
	cmpopts.EquateEmpty(),
}

func tunnel(change func(*Tunnel)) Tunnel {
	t := Tunnel{Peer: "site 7", Local: netip.MustParseAddr("198.51.100.1"), Endpoint: netip.MustParseAddrPort("203.0.113.7:4500"),
		Subnets: []netip.Prefix{netip.MustParsePrefix("10.7.0.0/16"), netip.MustParsePrefix("2001:db8:7::/48")},
		Since:   time.Unix(1_800_000_000, 123_456_789), Rx: 1 << 40, Tx: 7}
	if change != nil {
		change(&t)
	}
	return t
}

// messages are one of each kind.
func messages() []Message {
	return []Message{
		{},
		{Hello: &Hello{Format: 1, Version: "1.2", Instance: "x", RealServers: []Server{{Name: "rs1", Terminator: "wireguard", ProbePort: 7461,
			VIPs: []netip.Addr{netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("2001:db8:1::1")}, Method: "dr"}}}},
		{Welcome: &Welcome{Format: 1, Director: "d1", Known: map[string]uint64{"rs1": 9}, Refused: map[string]string{"rs2": "another host's"}, Warnings: []string{"w"}}},
		{Report: &Report{RealServer: "rs1", Seq: 10, Whole: true, First: true, Last: true, Up: []Tunnel{tunnel(nil), tunnel(func(t *Tunnel) {
			t.Local, t.Last, t.Endpoint, t.Subnets = netip.Addr{}, t.Since.Add(time.Second), netip.MustParseAddrPort("[2001:db8::7]:0"), nil
		})}, Down: []string{"site 8"}}},
		{Known: &Known{RealServer: "rs1", Seq: 10}},
		{Status: &Status{RealServer: "rs1", Health: HealthHeadless, Cause: "charon is gone", Since: time.Unix(1_800_000_000, 0), Closed: true, Tunnels: 10_000,
			Load:  Load{Permille: 990, Full: true, Parts: []Part{{Name: "cpu 3", Permille: 990, Says: "79 % of a core, ceiling 80 %"}}},
			Found: []Finding{{ID: "rp-filter", What: "strict", Causes: "dropped", Remedy: "loosen it", Severity: "breaks"}}}},
		{Status: &Status{RealServer: "rs1", Health: HealthWorking, Since: time.Unix(1_800_000_000, 0), FoundAsBefore: true}},
		{Order: &Order{RealServer: "rs1", Kind: OrderAdopt, Tunnels: []Inherited{{ID: "t7", Peer: "site 7", Local: netip.MustParseAddr("198.51.100.1"),
			Endpoint: netip.MustParseAddrPort("203.0.113.7:4500"), Subnets: []netip.Prefix{netip.MustParsePrefix("10.7.0.0/16")}, Bandwidth: 1e9}}}},
		{Progress: &Progress{RealServer: "rs1", Kind: OrderAdopt, Tunnels: []Step{{ID: "t7", Outcome: OutcomeWaiting, Why: "no key"}}}},
		{Order: &Order{RealServer: "rs1", Kind: OrderInject, Fault: &FaultOrder{ID: "F-7", Kind: "host-loss", Millis: 600_000}}},
		{Order: &Order{RealServer: "rs1", Kind: OrderUndo, Fault: &FaultOrder{ID: "F-7"}}},
		{Refused: &Refused{Why: "two of one name"}},
		{Verdict: &Verdict{RealServer: "rs1", State: "dead", Since: time.Unix(1_800_000_000, 0), Why: "silent", Shut: "it is full"}},
		{Verdict: &Verdict{RealServer: "rs1", State: "alive", Since: time.Unix(1_800_000_000, 0), Drained: time.Unix(1_800_000_001, 0)}},
	}
}

func TestRoundTrip(t *testing.T) {
	a, b := net.Pipe()
	from, to := NewConn(a), NewConn(b)
	for _, m := range messages() {
		sent := make(chan error, 1)
		go func() { sent <- from.Send(m) }()
		got, err := to.Receive()
		if err := errors.Join(err, <-sent); err != nil {
			t.Fatalf("%+v: %v", m, err)
		}
		if d := cmp.Diff(m, got, compare); d != "" {
			t.Error(d)
		}
	}
	from.Close()
	if m, err := to.Receive(); err == nil {
		t.Errorf("after the end: %+v", m)
	}
}

// faulty are messages that break one bound each.
func faulty() map[string]Message {
	long := strings.Repeat("x", MaxText+1)
	report := func(change func(*Tunnel)) Message {
		return Message{Report: &Report{RealServer: "rs1", Up: []Tunnel{tunnel(change)}}}
	}
	return map[string]Message{
		"two kinds":            {Known: &Known{}, Order: &Order{Tunnels: make([]Inherited, MaxTunnels+1)}},
		"hello, servers":       {Hello: &Hello{Instance: "x", RealServers: make([]Server, MaxServers+1)}},
		"hello, no name":       {Hello: &Hello{Instance: "x", RealServers: make([]Server, 1)}},
		"hello, no instance":   {Hello: &Hello{}},
		"hello, long version":  {Hello: &Hello{Instance: "x", Version: long}},
		"welcome, warning":     {Welcome: &Welcome{Warnings: []string{long}}},
		"welcome, refused":     {Welcome: &Welcome{Refused: map[string]string{"rs1": long}}},
		"welcome, known":       {Welcome: &Welcome{Known: map[string]uint64{long: 1}}},
		"refusal":              {Refused: &Refused{Why: long}},
		"verdict, why":         {Verdict: &Verdict{Why: long}},
		"verdict, shut":        {Verdict: &Verdict{Shut: long}},
		"verdict, since":       {Verdict: &Verdict{Since: time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC)}},
		"known":                {Known: &Known{RealServer: long}},
		"report, up":           {Report: &Report{Up: make([]Tunnel, MaxTunnels+1)}},
		"report, down":         {Report: &Report{Down: make([]string, MaxTunnels+1)}},
		"report, down's name":  {Report: &Report{Down: []string{long}}},
		"report, no peer":      report(func(t *Tunnel) { t.Peer = "" }),
		"report, long peer":    report(func(t *Tunnel) { t.Peer = long }),
		"report, peer's UTF-8": report(func(t *Tunnel) { t.Peer = "\xff" }),
		"report, subnets":      report(func(t *Tunnel) { t.Subnets = make([]netip.Prefix, MaxSubnets+1) }),
		"report, no subnet":    report(func(t *Tunnel) { t.Subnets = make([]netip.Prefix, 1) }),
		"report, no endpoint":  report(func(t *Tunnel) { t.Endpoint = netip.AddrPort{} }),
		"report, zone":         report(func(t *Tunnel) { t.Endpoint = netip.MustParseAddrPort("[fe80::1%eth0]:1") }),
		"report, 4in6":         report(func(t *Tunnel) { t.Endpoint = netip.MustParseAddrPort("[::ffff:192.0.2.1]:1") }),
		"report, 4in6 local":   report(func(t *Tunnel) { t.Local = netip.MustParseAddr("::ffff:192.0.2.1") }),
		"report, year":         report(func(t *Tunnel) { t.Since = time.Unix(1<<40, 0) }),
		"status, health":       {Status: &Status{Health: HealthDead + 1}},
		"status, cause":        {Status: &Status{Cause: long}},
		"status, parts":        {Status: &Status{Load: Load{Parts: make([]Part, maxParts+1)}}},
		"status, part":         {Status: &Status{Load: Load{Parts: []Part{{Says: long}}}}},
		"status, found":        {Status: &Status{Found: make([]Finding, MaxFound+1)}},
		"status, found twice":  {Status: &Status{Found: make([]Finding, 1), FoundAsBefore: true}},
		"order":                {Order: &Order{Tunnels: make([]Inherited, MaxTunnels+1)}},
		"order, peer":          {Order: &Order{Tunnels: []Inherited{{Peer: long}}}},
		"order, subnet":        {Order: &Order{Tunnels: []Inherited{{Subnets: make([]netip.Prefix, 1)}}}},
		"fault, none":          {Order: &Order{Kind: OrderInject}},
		"fault, of an adopt":   {Order: &Order{Kind: OrderAdopt, Fault: &FaultOrder{ID: "f"}}},
		"fault, no ID":         {Order: &Order{Kind: OrderUndo, Fault: &FaultOrder{}}},
		"fault, ID":            {Order: &Order{Kind: OrderInject, Fault: &FaultOrder{ID: "../f"}}},
		"fault, long ID":       {Order: &Order{Kind: OrderInject, Fault: &FaultOrder{ID: strings.Repeat("x", MaxFaultID+1)}}},
		"fault, kind":          {Order: &Order{Kind: OrderInject, Fault: &FaultOrder{ID: "f", Kind: long}}},
		"fault, long":          {Order: &Order{Kind: OrderInject, Fault: &FaultOrder{ID: "f", Millis: 600_001}}},
		"progress":             {Progress: &Progress{Tunnels: make([]Step, MaxTunnels+1)}},
		"progress, why":        {Progress: &Progress{Tunnels: []Step{{Why: long}}}},
	}
}

// An agent of before faults takes an order about one for an order of a kind that it does not know.
func TestFaultToOlder(t *testing.T) {
	body, err := encoder.Marshal(Message{Order: &Order{RealServer: "rs1", Kind: OrderInject, Fault: &FaultOrder{ID: "f", Kind: "host-loss", Millis: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	var older struct {
		Order *struct {
			RealServer string      `cbor:"1,keyasint"`
			Kind       uint8       `cbor:"2,keyasint"`
			Tunnels    []Inherited `cbor:"3,keyasint,omitempty"`
		} `cbor:"6,keyasint,omitempty"`
	}
	if err := decoder.Unmarshal(body, &older); err != nil || older.Order == nil || older.Order.RealServer != "rs1" || older.Order.Kind <= uint8(OrderForget) {
		t.Errorf("%+v: %v", older.Order, err)
	}
}

// What breaks the bounds is neither sent nor taken.
func TestBounds(t *testing.T) {
	for name, m := range faulty() {
		t.Run(name, func(t *testing.T) {
			var w bytes.Buffer
			if err := NewConn(buffer{out: &w}).Send(m); err == nil || w.Len() > 0 {
				t.Errorf("sent %d bytes: %v", w.Len(), err)
			}
			body, err := encoder.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := receive(frame(body)); err == nil || cmp.Diff(Message{}, got, compare) != "" {
				t.Errorf("took %+v: %v", got, err)
			}
		})
	}
	huge := Message{Report: &Report{Up: make([]Tunnel, MaxTunnels)}} // each tunnel in bounds, all together not
	for i := range huge.Report.Up {
		huge.Report.Up[i] = tunnel(func(t *Tunnel) { t.Subnets = nil; t.Peer = strings.Repeat("x", MaxText) })
		for range 20 {
			huge.Report.Up[i].Subnets = append(huge.Report.Up[i].Subnets, netip.MustParsePrefix("2001:db8::/32"))
		}
	}
	var w bytes.Buffer
	if err := NewConn(buffer{out: &w}).Send(huge); err == nil || w.Len() > 0 {
		t.Errorf("more than a frame sent: %d bytes, %v", w.Len(), err)
	}
}

func TestText(t *testing.T) {
	for in, want := range map[string]string{"plain": "plain", "a\xffb": "ab", strings.Repeat("x", MaxText-1) + "ä": strings.Repeat("x", MaxText-1)} {
		if got := Text(in); got != want || !text(got) {
			t.Errorf("%q cut to %q", in, got)
		}
	}
}

// A buffer is a connection whose other end has said in, and is gone.
type buffer struct {
	net.Conn
	in  io.Reader
	out io.Writer
}

func (b buffer) Read(p []byte) (int, error)       { return b.in.Read(p) }
func (b buffer) Write(p []byte) (int, error)      { return b.out.Write(p) }
func (b buffer) SetReadDeadline(time.Time) error  { return nil }
func (b buffer) SetWriteDeadline(time.Time) error { return nil }

func frame(body []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
}

func receive(b []byte) (Message, error) { return NewConn(buffer{in: bytes.NewReader(b)}).Receive() }

func TestGarbage(t *testing.T) {
	whole := frame([]byte{0xa0})
	for name, tt := range map[string]struct {
		in   []byte
		want error // nil: any but EOF, which is the end of a stream in order
	}{
		"nothing":          {nil, io.EOF},
		"half a length":    {whole[:2], io.ErrUnexpectedEOF},
		"half a message":   {whole[:4], io.ErrUnexpectedEOF},
		"no message":       {frame(nil), nil},
		"cut CBOR":         {frame([]byte{0xa1, 1}), nil},
		"more than CBOR":   {frame([]byte{0xa0, 0xa0}), nil},
		"another type":     {frame([]byte{0x01}), nil},
		"HTTP":             {[]byte("GET / HTTP/1.1\r\n\r\n"), nil},
		"TLS":              {[]byte{0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc}, nil},
		"too long":         {append([]byte{0, 0x10, 0, 1}, make([]byte, MaxFrame+1)...), nil},
		"indefinite":       {frame([]byte{0xbf, 0xff}), nil},
		"a key twice":      {frame([]byte{0xa2, 4, 0xf6, 4, 0xf6}), nil},
		"a tag":            {frame([]byte{0xa1, 4, 0xc1, 0x00}), nil},
		"deep":             {frame(append(append([]byte{0xa1, 0x18, 99}, bytes.Repeat([]byte{0x81}, 20)...), 0)), nil},
		"invalid UTF-8":    {frame([]byte{0xa1, 8, 0xa1, 1, 0x61, 0xff}), nil},
		"an address of 5":  {frame([]byte{0xa1, 3, 0xa1, 6, 0x81, 0xa1, 2, 0x45, 1, 2, 3, 4, 5}), nil},
		"years to come":    {frame([]byte{0xa1, 5, 0xa1, 4, 0x1b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}), nil},
		"16384 in a list":  {frame(append([]byte{0xa1, 3, 0xa1, 7, 0x99, 0x40, 0x00}, bytes.Repeat([]byte{0x60}, 0x4000)...)), nil},
		"a list of 2^32-1": {frame([]byte{0xa1, 3, 0xa1, 7, 0x9a, 0xff, 0xff, 0xff, 0xff}), nil},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := receive(tt.in)
			if err == nil || tt.want != nil && err != tt.want || tt.want == nil && errors.Is(err, io.EOF) {
				t.Errorf("%+v, %v; want %v", m, err, tt.want)
			}
		})
	}
}

func FuzzReceive(f *testing.F) {
	for _, m := range messages() {
		b, err := encoder.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(frame(b))
		f.Add(frame(b[:len(b)/2]))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := receive(b)
		if err != nil {
			return
		}
		// What was taken can be sent on, and is the same then.
		var w bytes.Buffer
		if err := NewConn(buffer{out: &w}).Send(m); err != nil {
			t.Fatalf("%+v was received and cannot be sent: %v", m, err)
		}
		again, err := receive(w.Bytes())
		if d := cmp.Diff(m, again, compare); err != nil || d != "" {
			t.Fatalf("%v %s", err, d)
		}
	})
}

// A peer that neither speaks nor reads costs Patience, not more, and what was begun then is not mistaken for a frame later.
func TestSilentPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		c := NewConn(a)
		from := time.Now()
		if _, err := c.Receive(); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(from) != Patience {
			t.Errorf("received after %v: %v", time.Since(from), err)
		}
		go func() { // reads a little of the frame, and the rest only when the writer has given up
			_, _ = io.ReadFull(b, make([]byte, 3))
			time.Sleep(2 * Patience)
			_, _ = io.Copy(io.Discard, b)
		}()
		from = time.Now()
		err := c.Send(Message{Known: &Known{RealServer: "rs1", Seq: 1}})
		if !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(from) != Patience {
			t.Errorf("sent after %v: %v", time.Since(from), err)
		}
		time.Sleep(2 * Patience) // the peer reads now: a second frame would be taken for the rest of the first
		if again := c.Send(Message{}); again != err {
			t.Errorf("after half a frame: %v, want %v", again, err)
		}
		c.Close()
		b.Close()
	})
}

// A peer that drips a byte at a time has Patience for a whole message.
func TestDrippingPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		go func() {
			for _, c := range frame(make([]byte, 100)) {
				if _, err := b.Write([]byte{c}); err != nil {
					return
				}
				time.Sleep(Patience / 10)
			}
		}()
		defer time.Sleep(Patience)
		defer a.Close()
		from := time.Now()
		if _, err := NewConn(a).Receive(); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(from) != Patience {
			t.Errorf("after %v: %v", time.Since(from), err)
		}
	})
}

func TestManySenders(t *testing.T) {
	a, b := net.Pipe()
	from, to := NewConn(a), NewConn(b)
	var wg sync.WaitGroup
	const n = 50
	for i := range uint64(n) {
		wg.Go(func() {
			if err := from.Send(Message{Known: &Known{RealServer: strings.Repeat("r", int(i)), Seq: i}}); err != nil {
				t.Error(err)
			}
		})
	}
	seen := map[uint64]bool{}
	for range n {
		m, err := to.Receive()
		if err != nil || m.Known == nil || len(m.Known.RealServer) != int(m.Known.Seq) {
			t.Fatalf("%+v: %v", m, err)
		}
		seen[m.Known.Seq] = true
	}
	wg.Wait()
	if len(seen) != n {
		t.Errorf("%d messages, want %d", len(seen), n)
	}
}

// A Receive that waits ends when the stream is closed.
func TestCloseWhileReceiving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		defer b.Close()
		c := NewConn(a)
		done := make(chan error, 1)
		go func() { _, err := c.Receive(); done <- err }()
		synctest.Wait()
		c.Close()
		if err := <-done; err == nil {
			t.Error("received from a closed stream")
		}
	})
}

// TestKindsToCome: a message of a kind that is not known yet keeps the stream alive, and does no more.
func TestKindsToCome(t *testing.T) {
	body, err := encoder.Marshal(map[int]any{200: map[int]any{1: "rs1", 2: uint64(7)}})
	if err != nil {
		t.Fatal(err)
	}
	a, b := net.Pipe()
	defer a.Close()
	go func() { _, _ = a.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)) }()
	if m, err := NewConn(b).Receive(); err != nil || m != (Message{}) {
		t.Errorf("got %+v, %v", m, err)
	}
}
