package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRead(t *testing.T) {
	for _, c := range []struct {
		name, in string
		want     []Event
		err      string // part of it; "": none
	}{
		{name: "nothing"},
		{
			name: "a job of one",
			in:   `{"kind":"booted","release":"6.1"}` + "\n" + `{"kind":"start"}` + "\n" + `{"kind":"output","data":"aGkK","uptime":1.5}` + "\n" + `{"kind":"exit","code":2}` + "\n" + `{"kind":"done"}`,
			want: []Event{{Kind: Booted, Release: "6.1"}, {Kind: Start}, {Kind: Output, Data: []byte("hi\n"), Uptime: 1.5}, {Kind: Exit, Code: 2}, {Kind: Done}},
		},
		{name: "cut off", in: `{"kind":"done"}{"kind":"out`, want: []Event{{Kind: Done}}, err: "unexpected EOF"},
		{name: "a program that there is not", in: `{"kind":"exit","program":1}`, err: "of program 1, but there are 1"},
		{name: "a program below", in: `{"kind":"exit","program":-1}`, err: "of program -1"},
		{name: "unknown kind", in: `{"kind":"end"}`, err: `unknown event "end"`},
		{name: "unknown field", in: `{"kind":"done","colour":"red"}`, err: "colour"},
		{name: "no event", in: `panic: x`, err: "invalid character"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []Event
			err := Read(strings.NewReader(c.in), 1, func(e Event) error { got = append(got, e); return nil })
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
			if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("error %v, want %q", err, c.err)
			}
		})
	}
}

func TestReadStopsWhenTold(t *testing.T) {
	stop := errors.New("stop")
	if err := Read(strings.NewReader(`{"kind":"done"}{"kind":"done"}`), 0, func(Event) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("got %v", err)
	}
}

// FuzzRead: whatever the guest says, what is taken for events is such, and can be said again.
func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"kind":"output","data":"aGkK","uptime":1.5}{"kind":"exit","program":2,"code":-1,"problem":"x"}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		var taken []Event
		var again bytes.Buffer
		encoder := json.NewEncoder(&again)
		err := Read(bytes.NewReader(in), 3, func(e Event) error {
			if e.Program < 0 || e.Program > 2 {
				switch e.Kind {
				case Start, Output, Exit:
					t.Errorf("event of program %d", e.Program)
				}
			}
			taken = append(taken, e)
			return encoder.Encode(e)
		})
		if errors.Is(err, io.EOF) {
			t.Errorf("the end is an error: %v", err)
		}
		i := 0
		if err := Read(&again, 3, func(e Event) error {
			if diff := cmp.Diff(taken[i], e, cmp.Transformer("data", func(b []byte) string { return string(b) })); diff != "" {
				t.Errorf("said again (-was +is):\n%s", diff)
			}
			i++
			return nil
		}); err != nil || i != len(taken) {
			t.Errorf("%d of %d events said again, %v", i, len(taken), err)
		}
	})
}
