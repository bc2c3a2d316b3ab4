package api

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// outcome is what a stream was answered.
type outcome struct {
	lines   []StreamLine // without the summary
	summary Summary
}

func readOutcome(t testing.TB, data []byte) outcome {
	t.Helper()
	var o outcome
	n := 0
	for line := range strings.Lines(string(data)) {
		l := decodeInto[StreamLine](t, []byte(line))
		if n++; l.Summary != nil {
			o.summary = *l.Summary
			n = -1 // nothing may follow
			continue
		}
		if n <= 0 {
			t.Fatalf("a line after the summary: %s", line)
		}
		o.lines = append(o.lines, l)
	}
	if n != -1 {
		t.Fatalf("no summary in %.300s", data)
	}
	return o
}

func refusedLines(o outcome) map[int]int {
	out := map[int]int{}
	for _, l := range o.lines {
		if l.Error != nil {
			out[l.Line] = l.Error.Status
		}
	}
	return out
}

func tunnelLine(i int) string {
	return fmt.Sprintf(`{"id":"site-%04d","service":"ipsec","endpoints":["203.0.%d.%d"],"subnets":["100.%d.%d.0/28"],"bandwidth_bps":2000000}`,
		i, 112+i/250, 1+i%250, 64+i/250, i%250)
}

func TestBatch(t *testing.T) {
	tests := []struct {
		name, body string
		want       Summary
		refused    map[int]int // line -> status
	}{
		{"empty", "", Summary{Complete: true}, nil},
		{"blank lines", "\n\r\n  \n", Summary{Complete: true}, nil},
		{"two", tunnelLine(1) + "\n" + tunnelLine(2) + "\n", Summary{Lines: 2, Created: 2, Complete: true}, nil},
		{"no last newline", tunnelLine(1), Summary{Lines: 1, Created: 1, Complete: true}, nil},
		{"CR LF and blanks", tunnelLine(1) + "\r\n\n" + tunnelLine(2) + "\r\n", Summary{Lines: 2, Created: 2, Complete: true}, nil},
		{"again", tunnelLine(1) + "\n" + tunnelLine(1) + "\n", Summary{Lines: 2, Created: 1, Unchanged: 1, Complete: true}, nil},
		{"changed", tunnelLine(1) + "\n" + strings.Replace(tunnelLine(1), "2000000", "3", 1), Summary{Lines: 2, Created: 1, Changed: 1, Complete: true}, nil},
		{"delete", tunnelLine(1) + "\n" + `{"delete":"site-0001"}` + "\n" + `{"delete":"nobody"}`, Summary{Lines: 3, Created: 1, Deleted: 1, Unchanged: 1, Complete: true}, nil},
		{"late delete", strings.Replace(tunnelLine(1), "}", `,"generation":5}`, 1) + "\n" + `{"delete":"site-0001","generation":4}`, Summary{Lines: 2, Created: 1, Refused: 1, Complete: true}, map[int]int{2: 412}},
		{"delete beside a tunnel", `{"delete":"a","service":"ipsec"}`, Summary{Lines: 1, Refused: 1, Complete: true}, map[int]int{1: 422}},
		{"bad lines between good ones", "garbage\n" + tunnelLine(1) + "\n{\"id\":\"x\",\"servce\":\"ipsec\"}\n[]\n" + tunnelLine(2) + "\n", Summary{Lines: 5, Created: 2, Refused: 3, Complete: true}, map[int]int{1: 400, 3: 422, 4: 422}},
		{"conflict", tunnelLine(1) + "\n" + strings.Replace(tunnelLine(1), "site-0001", "other", 1), Summary{Lines: 2, Created: 1, Refused: 1, Complete: true}, map[int]int{2: 409}},
		{"warning", `{"id":"w","service":"ipsec"}`, Summary{Lines: 1, Created: 1, Warned: 1, Complete: true}, nil},
		{"line of 10 MB", tunnelLine(1) + "\n" + `{"id":"big","labels":{"x":"` + strings.Repeat("x", 10<<20) + "\"}}\n" + tunnelLine(2) + "\n", Summary{Lines: 3, Created: 2, Refused: 1, Complete: true}, map[int]int{2: 413}},
		{"one line of garbage", strings.Repeat("\x00\xff", 3<<20), Summary{Lines: 1, Refused: 1, Complete: true}, map[int]int{1: 413}},
		{"not UTF-8", "{\"id\":\"\xff\"}", Summary{Lines: 1, Refused: 1, Complete: true}, map[int]int{1: 400}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			srv := serve(t, furnished(), Options{})
			code, _, data := ask(t, srv, "POST", "/v1/tunnels/batch", tt.body)
			got := readOutcome(t, data)
			if diff := cmp.Diff(tt.want, got.summary, cmpopts.IgnoreFields(Summary{}, "Revision", "Seconds")); code != 200 || diff != "" {
				t.Errorf("status %d, summary (-want +got):\n%s", code, diff)
			}
			if diff := cmp.Diff(tt.refused, refusedLines(got), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("refused (-want +got):\n%s\n%.500s", diff, data)
			}
			if got.summary.Revision == "" {
				t.Error("no revision")
			}
		})
	}
}

// Refused lines name the tunnel also where something else is wrong, so that people find it.
func TestBatchNamesTheTunnel(t *testing.T) {
	srv := serve(t, furnished(), Options{})
	_, _, data := ask(t, srv, "POST", "/v1/tunnels/batch", `{"subnet":[],"id":"site-9"}`)
	if got := readOutcome(t, data); len(got.lines) != 1 || got.lines[0].ID != "site-9" || got.lines[0].Error.Errors[0].Field != "subnet" {
		t.Errorf("%+v", got.lines)
	}
}

// Many lines are applied in few steps, and what is acknowledged is there.
func TestBatchOfMany(t *testing.T) {
	const n = 10_000
	l := furnished()
	c, _ := serveUnix(t, l, Options{})
	items := func(yield func(BatchItem, error) bool) {
		for i := range n {
			if !yield(BatchItem{Tunnel: Tunnel{ID: fmt.Sprintf("t%05d", i), Service: "ipsec", Endpoints: []string{fmt.Sprintf("203.0.%d.%d", i/250, 1+i%250)}}}, nil) {
				return
			}
		}
	}
	before := l.steps
	sum, err := c.Batch(t.Context(), items, true, nil)
	if err != nil || sum.Created != n || sum.Lines != n {
		t.Fatalf("%+v, %v", sum, err)
	}
	if steps := l.steps - before; steps > n/100 {
		t.Errorf("%d steps for %d tunnels", steps, n)
	}
	if got := l.Table().Len(); got != n {
		t.Errorf("%d tunnels", got)
	}
}

func TestGarbageEndsEarly(t *testing.T) {
	c, _ := serveUnix(t, furnished(), Options{})
	pr, pw := io.Pipe()
	go func() {
		block := []byte(strings.Repeat("not a tunnel, not JSON, nothing\n", 1<<15))
		sent := 0
		for sent < 100<<20 {
			n, err := pw.Write(block)
			if sent += n; err != nil {
				return
			}
		}
		pw.Close()
	}()
	sum, err := c.readStream(t.Context(), "POST", "/v1/tunnels/batch", nil, pr, nil)
	pr.Close()
	if err != nil || sum.Complete || sum.Lines > 20*chunkLines || !strings.Contains(sum.Why, "not NDJSON") {
		t.Errorf("%+v, %v", sum, err)
	}
}

// What came before the cut is applied, and the cut line is reported.
func TestBodyCutOff(t *testing.T) {
	for _, header := range []string{"Content-Length: 100000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n"} {
		l := furnished()
		srv := serve(t, l, Options{})
		conn, err := net.Dial("tcp", srv.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		body := tunnelLine(1) + "\n" + tunnelLine(2) + "\n" + tunnelLine(3)[:40]
		if strings.HasPrefix(header, "Transfer") {
			body = fmt.Sprintf("%x\r\n%s", len(body)+10, body)
		}
		fmt.Fprintf(conn, "POST /v1/tunnels/batch HTTP/1.1\r\nHost: localhost\r\n%s%s", header, body)
		if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		data, _ := io.ReadAll(res.Body)
		conn.Close()
		got := readOutcome(t, data)
		want := Summary{Lines: 3, Created: 2, Refused: 1}
		if diff := cmp.Diff(want, got.summary, cmpopts.IgnoreFields(Summary{}, "Revision", "Seconds", "Why")); diff != "" || !strings.Contains(got.summary.Why, "cut off") {
			t.Errorf("%.10s: why %q (-want +got):\n%s", header, got.summary.Why, diff)
		}
		if r := refusedLines(got); r[3] != 400 || l.Table().Len() != 2 {
			t.Errorf("%.10s: refused %v, %d tunnels", header, r, l.Table().Len())
		}
	}
}

func TestBatchOnFullDisk(t *testing.T) {
	l := furnished()
	l.full = true
	srv := serve(t, l, Options{})
	_, _, data := ask(t, srv, "POST", "/v1/tunnels/batch", tunnelLine(1)+"\n")
	got := readOutcome(t, data)
	if got.summary.Complete || got.summary.Refused != 1 || refusedLines(got)[1] != 507 || !strings.Contains(got.summary.Why, "no writes") {
		t.Errorf("%+v %v", got.summary, got.lines)
	}
}

func TestBatchWhenTheDirectorStops(t *testing.T) {
	l := furnished()
	l.fail = errors.New("shutting down")
	srv := serve(t, l, Options{})
	_, _, data := ask(t, srv, "POST", "/v1/tunnels/batch", tunnelLine(1)+"\ngarbage\n")
	got := readOutcome(t, data)
	if s := got.summary; s.Complete || s.Unanswered != 1 || s.Refused != 1 || s.Lines != 2 || s.Why != "shutting down" {
		t.Errorf("%+v", s)
	}
}

// A running stream ends in good order when the server stops: what was received is applied, the client is told.
func TestStopDuringBatch(t *testing.T) {
	l := furnished()
	c, stop := serveUnix(t, l, Options{})
	pr, pw := io.Pipe()
	defer pw.Close()
	type result struct {
		sum Summary
		err error
	}
	done := make(chan result, 1)
	go func() {
		sum, err := c.readStream(context.Background(), "POST", "/v1/tunnels/batch", nil, pr, nil)
		done <- result{sum, err}
	}()
	fmt.Fprintln(pw, tunnelLine(1))
	for deadline := time.Now().Add(10 * time.Second); l.Table().Len() == 0; {
		if time.Now().After(deadline) {
			t.Fatal("a line that was sent is not applied while the next one is awaited")
		}
		time.Sleep(time.Millisecond)
	}
	if err := stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	if r := <-done; r.err != nil || r.sum.Created != 1 || r.sum.Complete || !strings.Contains(r.sum.Why, "stopping") {
		t.Errorf("%+v, %v", r.sum, r.err)
	}
}

// An error of the items ends the batch, and is what the caller gets.
func TestClientsItemsFail(t *testing.T) {
	l := furnished()
	c, _ := serveUnix(t, l, Options{})
	broken := errors.New("line 2 of the file is no tunnel")
	_, err := c.Batch(t.Context(), func(yield func(BatchItem, error) bool) {
		_ = yield(BatchItem{Tunnel: Tunnel{ID: "a", Service: "ipsec"}}, nil) && yield(BatchItem{}, broken)
	}, false, nil)
	if !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
}

// A client that sends everything before it reads, as simple ones do, gets its answer too: thousands of refusals wait.
func TestClientThatReadsLast(t *testing.T) {
	srv := serve(t, furnished(), Options{})
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const n = 20_000
	body := tunnelLine(1) + "\n" + strings.Repeat(`{"id":"x","service":"nothing-by-this-name"}`+"\n", n)
	fmt.Fprintf(conn, "POST /v1/tunnels/batch?progress=true HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n", len(body))
	if _, err := io.WriteString(conn, body); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if got := readOutcome(t, data); got.summary.Refused != n || got.summary.Created != 1 || !got.summary.Complete || got.summary.Untold != n-maxTold || len(refusedLines(got)) != maxTold {
		t.Errorf("%+v, %d lines", got.summary, len(got.lines))
	}
}

// What a source has said goes out while it pauses.
func TestBatchGoesOutInPauses(t *testing.T) {
	l := furnished()
	c, _ := serveUnix(t, l, Options{})
	waited := false
	items := func(yield func(BatchItem, error) bool) {
		if !yield(BatchItem{Tunnel: Tunnel{ID: "a", Service: "ipsec"}}, nil) {
			return
		}
		for limit := time.Now().Add(10 * time.Second); time.Now().Before(limit) && !waited; time.Sleep(time.Millisecond) {
			_, waited = l.Table().Tunnel("a")
		}
	}
	if sum, err := c.Batch(t.Context(), items, false, nil); err != nil || sum.Created != 1 || !waited {
		t.Errorf("%+v, %v; taken in during the pause: %v", sum, err, waited)
	}
}
