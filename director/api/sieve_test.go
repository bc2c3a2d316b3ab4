package api

import (
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
)

// lots reads as begin, then line again and again, n bytes of it.
func lots(begin, line string, n int) io.Reader {
	block := strings.Repeat(line, 1+(1<<16)/len(line))
	r := []io.Reader{strings.NewReader(begin)}
	for ; n > 0; n -= len(block) {
		r = append(r, strings.NewReader(block))
	}
	return io.MultiReader(r...)
}

// push sends a stream and reads its answer.
func push(t *testing.T, method, path string, body io.Reader) (o outcome, size int) {
	t.Helper()
	srv := serve(t, furnished(), Options{})
	pr, pw := io.Pipe()
	go func() {
		_, err := io.Copy(pw, body)
		_ = pw.CloseWithError(err) // always nil
	}()
	defer pr.Close()
	req, err := http.NewRequest(method, srv.URL+path, io.NopCloser(pr))
	if err != nil {
		t.Fatal(err)
	}
	res, err := srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil && len(data) == 0 {
		t.Fatal(err)
	}
	if res.StatusCode != 200 {
		p := decodeInto[Problem](t, data)
		return outcome{lines: []StreamLine{{Error: &p}}}, len(data)
	}
	return readOutcome(t, data), len(data)
}

func TestGarbage(t *testing.T) {
	noise := make([]byte, 8<<20)
	src := rand.NewChaCha8([32]byte{1})
	_, _ = src.Read(noise) // never fails
	good := tunnelLine(1) + "\n"
	for _, tt := range []struct {
		name  string
		body  func() io.Reader
		lines int // at most
	}{
		{"random bytes", func() io.Reader { return strings.NewReader(string(noise)) }, giveUpAfter + 3*chunkLines},
		{"numbers", func() io.Reader { return lots("", "7\n", 1<<20) }, giveUpAfter + 3*chunkLines},
		{"after a good line", func() io.Reader { return lots(good, "garbage\n", 16<<20) }, giveUpRun + 4*chunkLines},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o, size := push(t, "POST", "/v1/tunnels/batch", tt.body())
			if s := o.summary; s.Complete || s.Lines > tt.lines || !strings.Contains(s.Why, "not NDJSON") {
				t.Errorf("%+v", s)
			}
			if size > 8<<20 {
				t.Errorf("an answer of %d bytes", size)
			}
			header := strings.NewReader(`{"count":2000000}` + "\n")
			o, size = push(t, "PUT", "/v1/tunnels", io.MultiReader(header, tt.body()))
			if len(o.lines) != 1 || !strings.Contains(o.lines[0].Error.Detail, "not NDJSON") || size > 1000 {
				t.Errorf("a set: %d bytes: %+v", size, o)
			}
		})
	}
}

// Of very many refused lines the first are told, the rest is counted.
func TestRefusedAreCounted(t *testing.T) {
	const n = 3 * maxTold
	line := `{"id":"a","service":"none"}` + "\n"
	for _, tt := range []struct{ method, path, head string }{{"POST", "/v1/tunnels/batch", ""}, {"PUT", "/v1/tunnels", `{"count":30000}` + "\n"}} {
		o, _ := push(t, tt.method, tt.path, strings.NewReader(tt.head+strings.Repeat(`{"id":"-"}`+"\n", 7)+strings.Repeat(line, n-7)))
		if s := o.summary; !s.Complete || s.Refused != n || s.Untold != n-maxTold || len(o.lines) != maxTold {
			t.Errorf("%s: %+v, %d lines", tt.path, s, len(o.lines))
		}
	}
}
