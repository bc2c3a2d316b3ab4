package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// A box is a BlackBox in memory that notes what it is asked.
type box struct {
	list   RecordingList
	files  map[string]io.Reader
	refuse error
	early  error           // that Packets returns before its context ends; nil: it does not
	shown  chan SeenPacket // what comes in; nil: nothing does
	linger time.Duration   // that the watch takes to end

	mu       sync.Mutex // guards what follows
	asked    []string
	watched  PacketFilter
	watchers int
}

func (b *box) note(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked = append(b.asked, fmt.Sprintf(format, args...))
}

func (b *box) said() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.asked
}

func (b *box) Recordings() (RecordingList, error) { return b.list, b.refuse }

func (b *box) Record(_ context.Context, by, why string) (Recording, error) {
	b.note("%s: record %s", by, why)
	return Recording{ID: "20260102T030405Z-operator", Trigger: "operator", Object: by, Why: why, Open: true}, b.refuse
}

func (b *box) Recording(id string) (io.ReadCloser, error) {
	b.note("read %s", id)
	if f, ok := b.files[id]; ok {
		return io.NopCloser(f), nil
	}
	if b.refuse != nil {
		return nil, b.refuse
	}
	return nil, fmt.Errorf("open recording %s: %w", id, fs.ErrNotExist)
}

func (b *box) Packets(ctx context.Context, by string, w PacketFilter, f func(SeenPacket) error) error {
	b.note("%s: watch", by)
	b.mu.Lock()
	b.watched = w
	b.watchers++
	second := b.watchers > 1
	b.mu.Unlock()
	defer func() {
		time.Sleep(b.linger)
		b.mu.Lock()
		b.watchers--
		b.mu.Unlock()
	}()
	switch {
	case second:
		return Conflict("ann watches packets since 03:04:05")
	case b.refuse != nil:
		return b.refuse
	}
	for {
		select {
		case p, more := <-b.shown:
			if !more {
				return b.early
			}
			if err := f(p); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

func packets(n int) chan SeenPacket {
	c := make(chan SeenPacket, n)
	for i := range n {
		c <- SeenPacket{At: time.Unix(int64(i), 0).UTC(), Interface: "eth0", Action: "drop", Reason: "loop", Length: 60 + i, Head: []byte{1, 2, 3}}
	}
	return c
}

const recordingOne = "20260102T030405Z-loop"

func TestWhoReadsPackets(t *testing.T) {
	tokens := tokens{"s-nms": {"nms1", RoleNMS}, "s-op": {"alice", RoleOperator}, "s-read": {"grafana", RoleRead}, "s-drill": {"rehearsal", RoleDrill}}
	for _, tt := range []struct {
		method, path, body string
		status             map[string]int // by secret
	}{
		{"GET", "/v1/blackbox", "", map[string]int{"": 401, "s-nms": 200, "s-read": 200, "s-op": 200, "s-drill": 200}},
		{"POST", "/v1/blackbox", `{"why":"look"}`, map[string]int{"": 401, "s-nms": 403, "s-read": 403, "s-op": 200, "s-drill": 200}},
		{"GET", "/v1/blackbox/" + recordingOne, "", map[string]int{"": 401, "s-nms": 403, "s-read": 403, "s-op": 200, "s-drill": 403}},
		{"GET", "/v1/packets?count=1", "", map[string]int{"": 401, "s-nms": 403, "s-read": 403, "s-op": 200, "s-drill": 403}},
	} {
		for secret, want := range tt.status {
			b := &box{files: map[string]io.Reader{recordingOne: strings.NewReader("file")}, shown: packets(1)}
			srv := serve(t, furnished(), Options{Tokens: tokens, BlackBox: b})
			var headers []string
			if secret != "" {
				headers = []string{"Authorization", "Bearer " + secret}
			}
			code, _, data := ask(t, srv, tt.method, tt.path, tt.body, headers...)
			if code != want {
				t.Errorf("%s %s as %q: status %d, want %d: %s", tt.method, tt.path, secret, code, want, data)
			}
			if code >= 400 && len(b.said()) > 0 {
				t.Errorf("%s %s as %q: asked %q", tt.method, tt.path, secret, b.said())
			}
		}
	}
}

func TestRecordings(t *testing.T) {
	b := &box{files: map[string]io.Reader{recordingOne: strings.NewReader("all of it")}}
	srv := serve(t, furnished(), Options{BlackBox: b})
	if _, _, data := ask(t, srv, "GET", "/v1/blackbox", ""); string(data) != `{"director":"lab","recordings":[],"max_bytes":0,"kept":[]}`+"\n" {
		t.Errorf("an empty list: %s", data)
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	b.list = RecordingList{Director: "d1", MaxBytes: 64 << 20, Error: "the disk is full",
		Recordings: []Recording{{ID: recordingOne, At: at, Trigger: "loop", Object: "rs1", Why: "it came back", Bytes: 9}},
		Kept:       []KeptDrops{{Reason: "loop", Samples: 7, Last: at}}}
	ask(t, srv, "GET", "/v1/blackbox", "") // is as described
	c, err := NewClient(ClientOptions{URL: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	l, err := c.Recordings(t.Context())
	if d := cmp.Diff(b.list, l); err != nil || d != "" {
		t.Errorf("%v %s", err, d)
	}
	for _, why := range []string{"", "site-0042 cannot dial", strings.Repeat("ü", maxWhy)} {
		r, err := c.Record(t.Context(), why)
		if err != nil || r.Why != why || r.Object != "local" || !r.Open {
			t.Errorf("record for %q: %+v, %v", why, r, err)
		}
	}
	if code, _, data := ask(t, srv, "POST", "/v1/blackbox", ""); code != 200 {
		t.Errorf("without a body: %d %s", code, data)
	}
	f, err := c.Recording(t.Context(), recordingOne)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(f)
	if f.Close() != nil || err != nil || string(data) != "all of it" {
		t.Errorf("read %q, %v", data, err)
	}
}

func TestRecordingsAreFiles(t *testing.T) {
	b := &box{files: map[string]io.Reader{recordingOne: strings.NewReader("file")}}
	code, h, data := ask(t, serve(t, furnished(), Options{BlackBox: b}), "GET", "/v1/blackbox/"+recordingOne, "")
	if code != 200 || h.Get("Content-Type") != "application/x-pcapng" || h.Get("Content-Disposition") != `attachment; filename=20260102T030405Z-loop.pcapng` || string(data) != "file" {
		t.Errorf("%d %v %q", code, h, data)
	}
}

// A recording that cannot be read to its end is not taken for the whole.
func TestRecordingCutOff(t *testing.T) {
	half := io.MultiReader(strings.NewReader(strings.Repeat("x", 100<<10)), &failing{})
	srv := serve(t, furnished(), Options{BlackBox: &box{files: map[string]io.Reader{recordingOne: half}}})
	c, err := NewClient(ClientOptions{URL: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	f, err := c.Recording(t.Context(), recordingOne)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if n, err := io.Copy(io.Discard, f); err == nil {
		t.Errorf("%d bytes, and no error", n)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("the disk is broken") }

func TestFaultyRecordings(t *testing.T) {
	for _, tt := range []struct {
		method, path, body string
		code               int
		says               []string
	}{
		{"GET", "/v1/blackbox/20260102T030405Z-drops", "", 404, []string{`no recording \"20260102T030405Z-drops\"`, `"field":"id","value":"20260102T030405Z-drops"`, `"remedy":"GET /v1/blackbox lists them`}},
		{"GET", "/v1/blackbox/..%2Fpasswd", "", 404, []string{`"field":"id","value":"../passwd"`}},
		{"POST", "/v1/blackbox", `{"why":"` + strings.Repeat("ü", maxWhy+1) + `"}`, 422, []string{`"field":"why"`, "has 301 characters", "at most 300"}},
		{"POST", "/v1/blackbox", `{"why":"a\nb"}`, 422, []string{`"field":"why"`, "has a control character"}},
		{"POST", "/v1/blackbox", `{"because":"a"}`, 422, []string{`"field":"because"`}},
		{"GET", "/v1/blackbox?limit=1", "", 422, []string{`"field":"limit"`, "there are none here"}},
	} {
		b := &box{}
		code, _, data := ask(t, serve(t, furnished(), Options{BlackBox: b}), tt.method, tt.path, tt.body)
		if code != tt.code || code == 422 && len(b.said()) > 0 {
			t.Errorf("%s %s %s: %d %s, asked %q", tt.method, tt.path, tt.body, code, data, b.said())
		}
		for _, s := range tt.says {
			if !strings.Contains(string(data), s) {
				t.Errorf("%s %s %s: %s lacks %s", tt.method, tt.path, tt.body, data, s)
			}
		}
	}
	refused := &box{refuse: Conflict("the disk is full")}
	srv := serve(t, furnished(), Options{BlackBox: refused})
	for _, x := range [][2]string{{"GET", "/v1/blackbox"}, {"POST", "/v1/blackbox"}, {"GET", "/v1/blackbox/" + recordingOne}, {"GET", "/v1/packets"}} {
		if code, _, data := ask(t, srv, x[0], x[1], ""); code != 409 || !strings.Contains(string(data), "the disk is full") {
			t.Errorf("%s %s: %d %s", x[0], x[1], code, data)
		}
	}
	none := serve(t, furnished(), Options{})
	for _, path := range []string{"/v1/blackbox", "/v1/blackbox/" + recordingOne, "/v1/packets"} {
		if code, _, _ := ask(t, none, "GET", path, ""); code != 404 {
			t.Errorf("without a black box %s: %d", path, code)
		}
	}
}

func TestPacketsAreTold(t *testing.T) {
	for _, tt := range []struct {
		name      string
		b         *box
		q         PacketQuery
		want, end string
	}{
		{"as many as are asked for", &box{shown: packets(5)}, PacketQuery{Count: 3}, "60 61 62", "count"},
		{"ten, if none says", &box{shown: packets(12)}, PacketQuery{}, "60 61 62 63 64 65 66 67 68 69", "count"},
		{"what comes in the time", &box{shown: packets(2)}, PacketQuery{For: 600 * time.Millisecond}, "60 61", "time"},
		{"none, if none comes", &box{}, PacketQuery{For: time.Millisecond}, "", "time"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, _ := serveUnix(t, furnished(), Options{BlackBox: tt.b})
			var got []string
			var pages []PacketPage
			for l, err := range c.Packets(t.Context(), tt.q) {
				if err != nil {
					t.Fatal(err)
				}
				if l.Packet != nil {
					got = append(got, fmt.Sprint(l.Packet.Length))
					if l.Packet.Interface != "eth0" || string(l.Packet.Head) != "\x01\x02\x03" {
						t.Errorf("%+v", l.Packet)
					}
				} else {
					pages = append(pages, *l.Page)
				}
			}
			if s := strings.Join(got, " "); s != tt.want {
				t.Errorf("packets %s, want %s", s, tt.want)
			}
			want := []PacketPage{{Director: "lab"}, {Director: "lab", Packets: len(got), End: tt.end}}
			if d := cmp.Diff(want, pages); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestPacketFilter(t *testing.T) {
	prefix := netip.MustParsePrefix
	for _, tt := range []struct {
		q    PacketQuery
		want PacketFilter
	}{
		{PacketQuery{}, PacketFilter{}},
		{PacketQuery{From: "203.0.113.5", To: "192.0.2.0/24", Proto: "udp", FromPort: 1, ToPort: 65535},
			PacketFilter{Src: prefix("203.0.113.5/32"), Dst: prefix("192.0.2.0/24"), Proto: 17, SrcPort: 1, DstPort: 65535}},
		{PacketQuery{To: "2001:db8::5", Proto: "icmpv6"}, PacketFilter{Dst: prefix("2001:db8::5/128"), Proto: 58}},
		{PacketQuery{From: "::/0", Proto: "50"}, PacketFilter{Src: prefix("::/0"), Proto: 50}},
		{PacketQuery{From: "0.0.0.0/0", ToPort: 500}, PacketFilter{Src: prefix("0.0.0.0/0"), DstPort: 500}},
	} {
		b := &box{}
		c, _ := serveUnix(t, furnished(), Options{BlackBox: b})
		tt.q.For = time.Millisecond
		for _, err := range c.Packets(t.Context(), tt.q) {
			if err != nil {
				t.Fatal(err)
			}
		}
		if d := cmp.Diff(tt.want, b.watched, cmpopts.EquateComparable(netip.Prefix{})); d != "" {
			t.Errorf("%+v: %s", tt.q, d)
		}
	}
}

func TestFaultyPacketQueries(t *testing.T) {
	for query, says := range map[string][]string{
		"from=here":                     {`"field":"from","value":"here","problem":"is neither an address nor a prefix"`},
		"to=192.0.2.1/24":               {`"field":"to"`, "has host bits set", "write 192.0.2.0/24"},
		"from=fe80::1%25eth0":           {`"field":"from"`, "has a zone", "write fe80::1"},
		"from=::ffff:192.0.2.1":         {`"field":"from"`, "is IPv4 in the form of IPv6", "write 192.0.2.1"},
		"from=::ffff:192.0.2.0/120":     {"write 192.0.2.0/24"},
		"from=192.0.2.1&to=2001:db8::1": {`"field":"to"`, "is not of the address family of from"},
		"proto=esq":                     {`"field":"proto","value":"esq"`, "is not an IP protocol"},
		"proto=0":                       {`"field":"proto"`},
		"proto=icmp&to=2001:db8::1":     {`"field":"proto"`, `"remedy":"icmpv6"`},
		"proto=icmpv6&from=192.0.2.1":   {`"field":"proto"`, `"remedy":"icmp"`},
		"proto=esp&from_port=500":       {`"field":"from_port","value":"500"`, "esp has none", "say proto udp or tcp"},
		"proto=gre&to_port=1":           {`"field":"to_port"`},
		"from_port=0":                   {`"field":"from_port"`, "from 1 to 65535"},
		"to_port=65536":                 {`"field":"to_port"`},
		"count=0":                       {`"field":"count"`, "from 1 to 10000"},
		"count=10001":                   {`"field":"count"`},
		"for_ms=0":                      {`"field":"for_ms"`, "from 1 to 600000"},
		"for_ms=600001":                 {`"field":"for_ms"`},
		"for_ms=30s":                    {`"field":"for_ms"`},
		"port=500":                      {`"field":"port"`, "known are from, to, proto, from_port, to_port, count, for_ms"},
		"from=":                         {`"field":"from"`, "is empty"},
		"from=a&to=b&proto=c&count=x&for_ms=y&z=1":   {`"field":"from"`, `"field":"to"`, `"field":"proto"`, `"field":"count"`, `"field":"for_ms"`, `"field":"z"`},
		"from=192.0.2.1&from=192.0.2.2":              {`"field":"from"`, "stands twice"},
		"proto=esp&to_port=x&count=0&from=192.0.2.1": {`"field":"to_port","value":"x"`, `"field":"count"`, "esp has none"},
	} {
		b := &box{}
		code, _, data := ask(t, serve(t, furnished(), Options{BlackBox: b}), "GET", "/v1/packets?"+query, "")
		if code != 422 || len(b.said()) > 0 {
			t.Errorf("%s: %d %s, asked %q", query, code, data, b.said())
		}
		for _, s := range says {
			if !strings.Contains(string(data), s) {
				t.Errorf("%s: %s lacks %s", query, data, s)
			}
		}
	}
}

// One watches: another is refused, and may when the first has read its last line.
func TestOneWatchesPackets(t *testing.T) {
	b := &box{shown: make(chan SeenPacket), linger: 100 * time.Millisecond}
	c, _ := serveUnix(t, furnished(), Options{BlackBox: b, Heartbeat: 5 * time.Millisecond})
	beats, lengths := 0, 0
	for l, err := range c.Packets(t.Context(), PacketQuery{Count: 1, For: MaxPacketsFor}) {
		if err != nil {
			t.Fatal(err)
		}
		if l.Packet != nil {
			lengths += l.Packet.Length
			continue
		}
		if beats++; beats == 3 { // a sign of life, while nothing comes
			for _, err := range c.Packets(t.Context(), PacketQuery{}) {
				var p *Problem
				if !errors.As(err, &p) || p.Status != http.StatusConflict || !strings.Contains(p.Detail, "ann watches") {
					t.Errorf("the second: %v", err)
				}
			}
			go func() { b.shown <- SeenPacket{Action: "forward", RealServer: "rs1", Length: 99} }()
		}
	}
	if lengths != 99 {
		t.Errorf("after %d lines of how it stands: packets of %d bytes", beats, lengths)
	}
	go func() { b.shown <- SeenPacket{Action: "forward", RealServer: "rs1", Length: 99} }()
	for _, err := range c.Packets(t.Context(), PacketQuery{Count: 1}) {
		if err != nil {
			t.Errorf("after the first: %v", err)
		}
	}
}

// Who hangs up watches no longer.
func TestPacketsForNobody(t *testing.T) {
	b := &box{shown: packets(1)}
	c, _ := serveUnix(t, furnished(), Options{BlackBox: b})
	for l, err := range c.Packets(t.Context(), PacketQuery{Count: 2}) {
		if err != nil {
			t.Fatal(err)
		}
		if l.Packet != nil {
			break
		}
	}
	for limit := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		b.mu.Lock()
		n := b.watchers
		b.mu.Unlock()
		if n == 0 {
			return
		}
		if time.Now().After(limit) {
			t.Fatal("it is watched still")
		}
	}
}

// A watch that fails, or whose director stops, says so in its last line.
func TestPacketsEndEarly(t *testing.T) {
	for _, early := range []error{errors.New("the maps are gone"), nil} {
		b := &box{shown: make(chan SeenPacket), early: early}
		c, _ := serveUnix(t, furnished(), Options{BlackBox: b})
		var failed error
		for l, err := range c.Packets(t.Context(), PacketQuery{}) {
			if failed = err; l.Page != nil && l.Page.End == "" {
				close(b.shown)
			}
		}
		var p *Problem
		want := "shows no more packets"
		if early != nil {
			want = early.Error()
		}
		if !errors.As(failed, &p) || !strings.Contains(p.Detail, want) {
			t.Errorf("%v: %v", early, failed)
		}
	}
	c, stop := serveUnix(t, furnished(), Options{BlackBox: &box{}})
	end := ""
	for l, err := range c.Packets(t.Context(), PacketQuery{}) {
		if err != nil {
			t.Fatal(err)
		}
		if end = l.Page.End; end == "" {
			go func() { _ = stop() }()
		}
	}
	if end != PacketsStopping {
		t.Errorf("it ended with %q", end)
	}
}

// An answer without its last line was cut off.
func TestPacketsCutOff(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, `{"page":{"director":"d1","packets":0}}`)
	}))
	defer srv.Close()
	c, err := NewClient(ClientOptions{URL: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	var failed error
	for _, err := range c.Packets(t.Context(), PacketQuery{}) {
		failed = err
	}
	if !errors.Is(failed, errPacketsCut) {
		t.Errorf("%v", failed)
	}
}

// What the black box answers is described, and each operation says who may.
func TestBlackBoxIsDescribed(t *testing.T) {
	srv := serve(t, furnished(), Options{BlackBox: &box{}})
	_, _, data := ask(t, srv, "GET", "/openapi.json", "")
	var d description
	if err := json.Unmarshal(data, &d); err != nil {
		t.Fatal(err)
	}
	checkRefs(t, data, d)
	s := New(furnished(), Options{BlackBox: &box{}})
	ids := map[string]bool{}
	for route, need := range map[string]needs{"GET /v1/blackbox": needsRead, "POST /v1/blackbox": needsDrill, "GET /v1/blackbox/{id}": needsOperator, "GET /v1/packets": needsOperator} {
		method, path, _ := strings.Cut(route, " ")
		checkOperation(t, route, d.Paths[path][strings.ToLower(method)], ids)
		if o := operationAt(s, method, path); o == nil || o.Metadata[needsKey] != need {
			t.Errorf("%s does not need %s", route, need)
		}
	}
	list := operationAt(s, "GET", "/v1/blackbox").Responses["200"].Content["application/json"].Schema
	for _, trigger := range append(RecordingTriggers(), "flood") {
		body := `{"director":"d1","recordings":[{"id":"x","at":"2026-01-02T03:04:05Z","trigger":"` + trigger + `","why":"w","bytes":1}],"max_bytes":1,"kept":[]}`
		if errs := misfits(s, list, body); (len(errs) == 0) != (trigger != "flood") {
			t.Errorf("%s: %v", trigger, errs)
		}
	}
}
