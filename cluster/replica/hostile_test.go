package replica

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"tunneldirector/affinity"
)

// visitor is the other end of a connection to a director, under the test's control.
type visitor struct {
	*stream
	ended chan error
}

// visit connects to n as peer.
func visit(t *testing.T, n *node, peer string) *visitor {
	near, far := net.Pipe()
	v := &visitor{newStream(near, new(traffic)), make(chan error, 1)}
	go func() { v.ended <- n.replica.Accept(t.Context(), far, peer) }()
	return v
}

func greeting(name string) hello {
	return hello{Min: 1, Max: 1, Record: affinity.Format, Name: name, Store: "store-" + name, Boot: 1, Instance: "run-" + name}
}

// drain reads whatever comes, and keeps what is not a ping.
func (v *visitor) drain() <-chan message {
	out := make(chan message, 1000)
	go func() {
		defer close(out)
		for {
			m, err := v.read()
			if err != nil {
				return
			}
			if _, isPing := m.(ping); !isPing {
				out <- m
			}
		}
	}()
	return out
}

// frame is the bytes of a frame.
func frame(k kind, body []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body)+1)), append([]byte{byte(k)}, body...)...)
}

// TestHostile: whatever a peer sends, the connection ends with words that say why, and the director goes on.
func TestHostile(t *testing.T) {
	hi := frame(kindHello, greeting("d9").append(nil))
	newer := greeting("d9")
	newer.Min, newer.Max = 7, 9
	older := greeting("d9")
	older.Min, older.Max = 0, 0
	other, own := greeting("d8"), greeting("d1")
	then := func(k kind, body ...byte) []byte { return append(append([]byte(nil), hi...), frame(k, body)...) }
	round := func(more ...byte) []byte { return append(then(kindGroups, groups{}.append(nil)...), more...) }
	many := append([]byte(nil), hi...)
	for range 2 * inRound {
		many = append(many, frame(kindDone, nil)...)
	}
	for _, tt := range []struct {
		name  string
		bytes []byte
		says  string
	}{
		{"a frame of 4 GB", []byte{0xff, 0xff, 0xff, 0xff, byte(kindHello)}, "garbage"},
		{"a frame of nothing", []byte{0, 0, 0, 0, 0}, "garbage"},
		{"something else", []byte("GET / HTTP/1.1\r\nHost: d1\r\n\r\n"), "garbage"},
		{"half a hello", hi[:len(hi)-3], "no bytes"},
		{"records before hello", frame(kindDelta, []byte{1}), "before hello"},
		{"a hello of garbage", frame(kindHello, []byte("not CBOR")), "garbage"},
		{"two hellos", append(append([]byte(nil), hi...), hi...), "second hello"},
		{"a newer protocol", frame(kindHello, newer.append(nil)), "upgrade d1"},
		{"an older protocol", frame(kindHello, older.append(nil)), "upgrade d9"},
		{"another name than its certificate's", frame(kindHello, other.append(nil)), "certificate"},
		{"the name of this director", frame(kindHello, own.append(nil)), "both directors are called"},
		{"an unknown kind", then(99), "not known"},
		{"half a record", then(kindDelta, 1, 't', 3, 'a', 'b'), "garbage"},
		{"a record of a billion bytes", then(kindDelta, 1, 't', 1, 'a', 0x80, 0x94, 0xeb, 0xdc, 0x03, 1), "garbage"},
		{"half a frame", then(kindDelta, make([]byte, 100)...)[:len(hi)+50], "no bytes"},
		{"a leaf of a billion records", round(frame(kindEntries, []byte{1, 0, 0, 0, 0x80, 0x94, 0xeb, 0xdc, 0x03, 1, 2, 3})...), "garbage"},
		{"an acknowledgement of nothing", then(kindAck, 9), "was not sent"},
		{"an answer to no question", then(kindAnswer, 9, 0), "no question"},
		{"a round that begins in its middle", then(kindWant), "outside of a round"},
		{"a round within a round", round(frame(kindGroups, groups{}.append(nil))...), "in place of"},
		{"rounds without end", many, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				d := newDesk("d1")
				d.put(0, 100)
				n := w.start(d, 1)
				v := visit(t, n, "d9")
				heard := v.drain()
				wrote := make(chan struct{})
				go func() {
					defer close(wrote)
					_, _ = v.conn.Write(tt.bytes)
					if strings.HasPrefix(tt.name, "half") {
						time.Sleep(time.Second)
						v.conn.Close()
					}
				}()
				select {
				case err := <-v.ended:
					says := tt.says
					if says == "no bytes" {
						says = io.ErrUnexpectedEOF.Error()
					}
					if err == nil || !strings.Contains(err.Error(), says) {
						t.Errorf("it ended with %v, want %q", err, says)
					}
					if s := n.replica.Status(); len(s) > 0 {
						t.Errorf("a peer that is gone for good is kept: %+v", s)
					}
				case <-time.After(20 * time.Second):
					t.Error("the connection goes on")
				}
				for m := range heard {
					if no, ok := m.(refused); ok && !strings.Contains(no.Why, tt.says) {
						t.Errorf("it was told %q", no.Why)
					}
				}
				<-wrote
				if d.merges > 0 || d.Table().Len() != 100 {
					t.Error("something was taken over")
				}
			})
		})
	}
}

// TestSilent: who says nothing is given up after 5 s; so is who takes nothing.
func TestSilent(t *testing.T) {
	for _, greets := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			v := visit(t, w.start(newDesk("d1"), 1), "d9")
			if greets {
				go func() { _ = v.write(greeting("d9")) }()
			}
			begun := time.Now()
			err := <-v.ended
			if took := time.Since(begun); err == nil || took != silence {
				t.Errorf("it ended after %v with %v", took, err)
			}
		})
	}
}

// TestNeighbours: what a newer release may send beside is skipped, and keys of its hello that are not known, too.
func TestNeighbours(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		n := w.start(newDesk("d1"), 1)
		v := visit(t, n, "d9")
		heard := v.drain()
		type tomorrow struct {
			hello
			More string `cbor:"99,keyasint"`
		}
		next := tomorrow{greeting("d9"), "more"}
		next.Max = 3
		log, _ := newDesk("d9").put(0, 3)
		for _, b := range [][]byte{frame(kindHello, appendCBOR(nil, next)), frame(0xf0, make([]byte, 1<<20)), frame(kindDelta, delta{1, log}.append(nil))} {
			if _, err := v.conn.Write(b); err != nil {
				t.Fatal(err)
			}
		}
		<-heard // its hello
		if m := <-heard; m != (ack{1}) {
			t.Errorf("heard %+v", m)
		}
		if n.Table().Len() != 3 {
			t.Errorf("%d tunnels", n.Table().Len())
		}
		if s := n.replica.Status()[0]; s.Protocol != maxProtocol || s.Received["other"] < 1<<20 {
			t.Errorf("%+v", s)
		}
		v.conn.Close()
	})
}

// TestSameName: of two directors of one name the second one is not spoken with; one that has only connected anew is.
func TestSameName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		n := w.start(newDesk("d1"), 1)
		first := visit(t, n, "d9")
		heard := first.drain()
		if err := first.write(greeting("d9")); err != nil {
			t.Fatal(err)
		}
		<-heard
		twin := greeting("d9")
		twin.Instance = "another run"
		second := visit(t, n, "d9")
		told := second.drain()
		if err := second.write(twin); err != nil {
			t.Fatal(err)
		}
		if err := <-second.ended; err == nil || !strings.Contains(err.Error(), "another director called d9") {
			t.Errorf("the second one: %v", err)
		}
		<-told
		if m, ok := (<-told).(refused); !ok || !strings.Contains(m.Why, "another name") {
			t.Errorf("it is told %+v", m)
		}
		again := visit(t, n, "d9")
		again.drain()
		if err := again.write(greeting("d9")); err != nil {
			t.Fatal(err)
		}
		if err := <-first.ended; err == nil || !strings.Contains(err.Error(), "anew") {
			t.Errorf("the connection before: %v", err)
		}
		again.conn.Close()
		<-again.ended
	})
}

// TestFlood: a peer that sends more than it may while the disk is full is cut off, and does not fill the memory.
func TestFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		d := newDesk("d1")
		d.full = errors.New("no room")
		v := visit(t, w.start(d, 1), "d9")
		v.drain()
		log, _ := newDesk("d9").put(0, 1000)
		err := v.write(greeting("d9"))
		sent := 0
		for ; err == nil && sent < 1000; sent++ {
			err = v.write(delta{uint64(sent), log})
		}
		if sent > 2*inFlight {
			t.Errorf("%d deltas were taken in", sent)
		}
		if err := <-v.ended; !errors.Is(err, errMore) {
			t.Errorf("ended with %v", err)
		}
	})
}

// messages are one of each kind.
func messages() []message {
	log, _ := newDesk("d1").put(0, 2)
	for i := range log {
		log[i] = affinity.Change{Kind: log[i].Kind, Key: log[i].Key, Value: log[i].Value}
	}
	set := new(leafSet)
	set.add(5)
	set.add(affinity.Leaves - 1)
	return []message{
		greeting("d1"), refused{"because", true, "store-d1", 7}, ping{}, delta{300, log}, ack{7}, question{9, []byte("how")}, answer{9, true, []byte("so")},
		groups{window: 5, records: 9, sums: [affinity.Groups]uint64{1, 1 << 63}},
		sums{level: 3, last: true, nodes: []nodeSums{{node: 0, children: [fanOut]uint32{1, 2}}, {node: 32767, children: [fanOut]uint32{7: 0xffffff}}}},
		lack{set},
		entries{true, []leafEntries{{7, []entry{{1, 2}, {3, 4}}}, {affinity.Leaves - 1, []entry{}}}},
		differ{true, []headed{{spotAt(7, 1<<31), affinity.Header{Stamp: 99, Origin: "d1", Epoch: 4, Format: affinity.Format}}, {at: 3}}},
		want{[]spot{spotAt(7, 1<<31), 3}}, done{},
	}
}

var plain = cmp.Options{cmp.Exporter(func(reflect.Type) bool { return true }), cmpopts.EquateEmpty()}

func TestMessages(t *testing.T) {
	seen := map[kind]bool{}
	for _, m := range messages() {
		seen[m.kind()] = true
		got, err := decode(m.kind(), m.append(nil))
		if err != nil {
			t.Errorf("%v: %v", m.kind(), err)
		}
		if d := cmp.Diff(m, got, plain); d != "" {
			t.Errorf("%v: %s", m.kind(), d)
		}
	}
	if len(seen) != int(kinds)-1 {
		t.Errorf("%d kinds of %d", len(seen), kinds-1)
	}
}

// FuzzDecode: any body is refused, or means what it is written as again.
func FuzzDecode(f *testing.F) {
	for _, m := range messages() {
		f.Add(byte(m.kind()), m.append(nil))
	}
	f.Fuzz(func(t *testing.T, k byte, body []byte) {
		m, err := decode(kind(k), body)
		if err != nil {
			return
		}
		again, err := decode(m.kind(), m.append(nil))
		if err != nil {
			t.Fatalf("%+v does not come back: %v", m, err)
		}
		if d := cmp.Diff(m, again, plain); d != "" {
			t.Error(d)
		}
	})
}

// FuzzAccept: whatever is sent after a hello, the director stands.
func FuzzAccept(f *testing.F) {
	for _, m := range messages() {
		f.Add(frame(m.kind(), m.append(nil)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		synctest.Test(t, func(t *testing.T) {
			d := newDesk("d1")
			d.put(0, 20)
			r := New(Options{Self: "d1", StoreID: "s", Boot: 1, Local: d})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			near, far := net.Pipe()
			ended := make(chan error, 1)
			go func() { ended <- r.Accept(ctx, far, "d9") }()
			v := &visitor{newStream(near, new(traffic)), ended}
			heard := v.drain()
			_ = v.write(greeting("d9"))
			_, _ = near.Write(b)
			synctest.Wait()
			near.Close()
			<-ended
			for range heard {
			}
		})
	})
}

// TestHostileOldCopy: a director ends, and its store is moved aside, only by the word of one that tells what it remembers of it.
func TestHostileOldCopy(t *testing.T) {
	hi := frame(kindHello, greeting("d9").append(nil))
	say := func(store string, boot uint64) []byte {
		return frame(kindRefused, refused{"so", true, store, boot}.append(nil))
	}
	for _, tt := range []struct {
		name  string
		bytes []byte
		old   bool
	}{
		{"before hello", say("store-d1", 8), false},
		{"of another store", append(slices.Clone(hi), say("store-d2", 8)...), false},
		{"of none", append(slices.Clone(hi), say("", 0)...), false},
		{"of this very start", append(slices.Clone(hi), say("store-d1", 7)...), false},
		{"of a later start", append(slices.Clone(hi), say("store-d1", 8)...), true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				n := w.start(newDesk("d1"), 7)
				v := visit(t, n, "d9")
				v.drain()
				if _, err := v.conn.Write(tt.bytes); err != nil {
					t.Fatal(err)
				}
				if err := <-v.ended; err == nil {
					t.Error("the connection ended without a word")
				}
				if old := len(n.olds) > 0; old != tt.old {
					t.Errorf("its store is an old copy: %t", old)
				}
			})
		})
	}
}
