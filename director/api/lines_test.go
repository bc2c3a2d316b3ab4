package api

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// A recorder is a ResponseWriter in memory, without deadlines.
type recorder struct {
	header http.Header
	body   bytes.Buffer
}

func newRecorder() *recorder                        { return &recorder{header: http.Header{}} }
func (r *recorder) Header() http.Header             { return r.header }
func (r *recorder) WriteHeader(int)                 {}
func (r *recorder) Write(p []byte) (n int, _ error) { return r.body.Write(p) }

func TestLines(t *testing.T) {
	const limit = 100_000
	long := strings.Repeat("x", limit+1)
	exact := strings.Repeat("y", limit)
	tests := []struct {
		name, in string
		cut      bool
		want     []string
	}{
		{"none", "", false, nil},
		{"one", "a\n", false, []string{"a"}},
		{"unended", "a\nb", false, []string{"a", "b"}},
		{"cut", "a\nb", true, []string{"a", "cut b"}},
		{"cut between lines", "a\n", true, []string{"a"}},
		{"blank", "\n \n\r\n", false, []string{"", "", ""}},
		{"just fits", exact + "\nb\n", false, []string{exact, "b"}},
		{"too long", long + "\nb\n", false, []string{"overlong", "b"}},
		{"far too long", long + long + long + "\nb", false, []string{"overlong", "b"}},
		{"too long and unended", "a\n" + long, false, []string{"a", "overlong"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var r io.Reader = strings.NewReader(tt.in)
			if tt.cut {
				r = io.MultiReader(r, errReader{})
			}
			l := newLineReader(r, limit)
			var got []string
			var err error
			for err == nil {
				var line []byte
				var kind lineKind
				if line, kind, err = l.next(); err != nil && kind != lineCut {
					break
				}
				switch kind {
				case lineWhole:
					got = append(got, string(line))
				case lineOverlong:
					got = append(got, "overlong")
				case lineCut:
					got = append(got, "cut "+string(line))
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("lines (-want +got):\n%.500s", diff)
			}
			if want := map[bool]error{true: io.ErrUnexpectedEOF, false: io.EOF}[tt.cut]; !errors.Is(err, want) {
				t.Errorf("error %v, want %v", err, want)
			}
		})
	}
}

// The nearest field is a proposal, not a guess at any price.
func TestNearestField(t *testing.T) {
	for field, want := range map[string]string{
		"subnet": "did you mean subnets?", "Service": "did you mean service?", "endpoint": "did you mean endpoints?", "bandwith_bps": "did you mean bandwidth_bps?",
		"zzz": "known are id, service", "up": "leave it out", "placement": "leave it out",
	} {
		p := decode(fmt.Appendf(nil, `{%q:1}`, field), new(Tunnel))
		if p == nil || !strings.Contains(p.Errors[0].Remedy, want) {
			t.Errorf("%s: %v, want %q", field, p, want)
		}
	}
}
