package api

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func setBody(count int, lines ...string) string {
	return fmt.Sprintf("{\"count\":%d}\n", count) + strings.Join(lines, "\n") + "\n"
}

func tunnelLines(from, to int) []string {
	var out []string
	for i := from; i < to; i++ {
		out = append(out, tunnelLine(i))
	}
	return out
}

// Each case begins with sites 0 to 19 of nms1, and one of nms2.
func TestCompleteSet(t *testing.T) {
	moved := strings.Replace(tunnelLine(99), tunnelLine(99)[strings.Index(tunnelLine(99), `"endpoints"`):], tunnelLine(19)[strings.Index(tunnelLine(19), `"endpoints"`):], 1)
	tests := []struct {
		name, query, body string
		up                []string
		status            int
		want              Summary
		contains          string
		left              int // tunnels afterwards, nms2's included
	}{
		{name: "the same", body: setBody(20, tunnelLines(0, 20)...), status: 200, want: Summary{Lines: 20, Unchanged: 20, Complete: true}, left: 21},
		{name: "two less", body: setBody(18, tunnelLines(0, 18)...), status: 200, want: Summary{Lines: 18, Unchanged: 18, Deleted: 2, Complete: true}, left: 19},
		{name: "one changed, one new, one less", body: setBody(20, append(tunnelLines(1, 20)[1:], strings.Replace(tunnelLine(1), "2000000", "1", 1), tunnelLine(30))...), status: 200,
			want: Summary{Lines: 20, Unchanged: 18, Changed: 1, Created: 1, Deleted: 1, Complete: true}, left: 21},
		{name: "claims pass on", body: setBody(20, append(tunnelLines(0, 19), moved)...), status: 200, want: Summary{Lines: 20, Unchanged: 19, Created: 1, Deleted: 1, Complete: true}, left: 21},
		{name: "too much less", body: setBody(17, tunnelLines(0, 17)...), status: 409, contains: "3 of the 20 tunnels of nms1", left: 21},
		{name: "nothing left", body: setBody(0), status: 409, contains: "force=true", left: 21},
		{name: "nothing left, forced", query: "?force=true", body: setBody(0), status: 200, want: Summary{Deleted: 20, Complete: true}, left: 1},
		{name: "dry run of nothing", query: "?dry_run=true", body: setBody(0), status: 200, want: Summary{Deleted: 20, DryRun: true, Complete: true}, contains: `"delete":["site-0000"`, left: 21},
		{name: "up is kept", body: setBody(19, tunnelLines(0, 19)...), up: []string{"site-0019"}, status: 200, want: Summary{Lines: 19, Unchanged: 19, Kept: 1, Complete: true}, contains: "it is up (packets)", left: 21},
		{name: "up goes by force", query: "?force=true", body: setBody(19, tunnelLines(0, 19)...), up: []string{"site-0019"}, status: 200, want: Summary{Lines: 19, Unchanged: 19, Deleted: 1, Complete: true}, left: 20},
		{name: "short", body: setBody(20, tunnelLines(0, 19)...), status: 422, contains: "19 tunnels follow", left: 21},
		{name: "long", body: setBody(19, tunnelLines(0, 20)...), status: 422, contains: "more tunnels follow", left: 21},
		{name: "no header", body: strings.Join(tunnelLines(0, 20), "\n"), status: 422, contains: `{\"count\":N}`, left: 21},
		{name: "empty", body: "", status: 400, left: 21},
		{name: "negative", body: setBody(-1), status: 422, left: 21},
		{name: "too many", body: setBody(1 << 30), status: 413, left: 21},
		{name: "refused is not unwanted", body: setBody(20, append(tunnelLines(0, 19), `{"id":"site-0019","service":"ipsec","subnets":["x"]}`)...), status: 200,
			want: Summary{Lines: 20, Unchanged: 19, Refused: 1, Kept: 1, Complete: true}, contains: "subnets[0]", left: 21},
		{name: "unreadable may be any", body: setBody(20, append(tunnelLines(0, 19), "garbage")...), status: 200, want: Summary{Lines: 20, Unchanged: 19, Refused: 1, Kept: 1, Complete: true}, left: 21},
		{name: "garbage", body: setBody(3000, strings.Split(strings.Repeat("x\n", 3000), "\n")[:3000]...), status: 400, contains: "not NDJSON", left: 21},
		{name: "twice", body: setBody(21, append(tunnelLines(0, 20), tunnelLine(3))...), status: 200, want: Summary{Lines: 21, Unchanged: 20, Refused: 1, Kept: 0, Complete: true}, contains: "stands in line 5 already", left: 21},
		{name: "delete line", body: setBody(20, append(tunnelLines(0, 19), `{"delete":"site-0019"}`)...), status: 200, want: Summary{Lines: 20, Unchanged: 19, Refused: 1, Kept: 1, Complete: true}, left: 21},
		{name: "another owner's", body: setBody(21, append(tunnelLines(0, 20), `{"id":"theirs","service":"ipsec"}`)...), status: 200,
			want: Summary{Lines: 21, Unchanged: 20, Refused: 1, Complete: true}, contains: "belongs to nms2", left: 21},
		{name: "another owner's claim", body: setBody(21, append(tunnelLines(0, 20), `{"id":"thief","service":"ipsec","endpoints":["203.0.113.250"]}`)...), status: 200,
			want: Summary{Lines: 21, Unchanged: 20, Refused: 1, Complete: true}, contains: "held by tunnel theirs", left: 21},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := furnished()
			srv := serve(t, l, Options{Tokens: testTokens})
			ask(t, srv, "POST", "/v1/tunnels/batch", strings.Join(tunnelLines(0, 20), "\n"), "Authorization", "Bearer s-nms")
			ask(t, srv, "PUT", "/v1/tunnels/theirs", `{"service":"ipsec","endpoints":["203.0.113.250"]}`, "Authorization", "Bearer s-nms2")
			if got := l.Table().Len(); got != 21 {
				t.Fatalf("%d tunnels to begin with", got)
			}
			for _, id := range tt.up {
				l.up[id] = true
			}
			code, _, data := ask(t, srv, "PUT", "/v1/tunnels"+tt.query, tt.body, "Authorization", "Bearer s-nms")
			if code != tt.status || !strings.Contains(string(data), tt.contains) {
				t.Errorf("status %d, want %d, with %q: %.600s", code, tt.status, tt.contains, data)
			}
			if code == 200 {
				tt.want.Owner = "nms1"
				if diff := cmp.Diff(tt.want, readOutcome(t, data).summary, cmpopts.IgnoreFields(Summary{}, "Revision", "Seconds", "Names")); diff != "" {
					t.Errorf("summary (-want +got):\n%s%.600s", diff, data)
				}
			}
			if got := l.Table().Len(); got != tt.left {
				t.Errorf("%d tunnels left, want %d", got, tt.left)
			}
			for i := range 20 {
				if tun, ok := l.Table().Tunnel(fmt.Sprintf("site-%04d", i)); ok && len(l.Table().Contested(tun)) > 0 {
					t.Errorf("%s is contested", tun.ID)
				}
			}
		})
	}
}

// Deletions count over the day, however many sets they come in.
func TestDeletionsAddUp(t *testing.T) {
	l := furnished()
	srv := serve(t, l, Options{})
	ask(t, srv, "POST", "/v1/tunnels/batch", strings.Join(tunnelLines(0, 20), "\n"))
	var got []int
	for _, n := range []int{19, 18, 17} {
		code, _, _ := ask(t, srv, "PUT", "/v1/tunnels", setBody(n, tunnelLines(0, n)...))
		got = append(got, code)
	}
	if diff := cmp.Diff([]int{200, 200, 409}, got); diff != "" {
		t.Errorf("statuses (-want +got):\n%s", diff)
	}
}

// What was pushed after the set began stays.
func TestSetLeavesNewerAlone(t *testing.T) {
	l := furnished()
	c, _ := serveUnix(t, l, Options{})
	if _, err := c.Batch(t.Context(), batchOf(tunnelLines(0, 20)), false, nil); err != nil {
		t.Fatal(err)
	}
	begun := make(chan struct{})
	l.stamped = begun
	sum, err := c.PutSet(t.Context(), SetOptions{Count: 20}, func(yield func(Tunnel, error) bool) {
		for i, line := range tunnelLines(0, 20) {
			if i == 10 { // meanwhile, by another request
				<-begun
				for _, tun := range []Tunnel{{ID: "late", Service: "ipsec"}, {ID: "site-0003", Service: "ipsec", Bandwidth: 77}} {
					if _, err := c.PutTunnel(t.Context(), tun); err != nil {
						t.Error(err)
					}
				}
			}
			if !yield(decodeInto[Tunnel](t, []byte(line)), nil) {
				return
			}
		}
	}, nil)
	if err != nil || sum.Newer != 2 || sum.Unchanged != 19 || sum.Deleted != 0 {
		t.Errorf("%+v, %v", sum, err)
	}
	if tun, _ := l.Table().Tunnel("site-0003"); tun.Bandwidth != 77 {
		t.Errorf("the newer push was undone: %+v", tun)
	}
}

func batchOf(lines []string) func(func(BatchItem, error) bool) {
	return func(yield func(BatchItem, error) bool) {
		for _, line := range lines {
			var it BatchItem
			if p := decode([]byte(line), &it); p != nil {
				yield(it, p)
				return
			}
			if !yield(it, nil) {
				return
			}
		}
	}
}

// Only one set is in memory at a time; the next one waits, and then is told to come again.
func TestSetsTakeTurns(t *testing.T) {
	s := New(furnished(), Options{})
	if err := s.beginSet(t.Context(), time.Minute); err != nil {
		t.Fatal(err)
	}
	var p *Problem
	if err := s.beginSet(t.Context(), time.Millisecond); !errors.As(err, &p) || p.Status != 503 || p.RetryAfter == 0 {
		t.Errorf("a second one: %v", err)
	}
	s.endSet()
	if err := s.beginSet(t.Context(), time.Minute); err != nil {
		t.Errorf("after the first one: %v", err)
	}
}

// Whatever a set ends by, the next one has its turn.
func TestEverySetEndsItsTurn(t *testing.T) {
	l := furnished()
	srv := serve(t, l, Options{})
	for _, body := range []string{"", "garbage", setBody(2, tunnelLine(1)), setBody(1, tunnelLine(1)), setBody(0), setBody(1, tunnelLine(1))} {
		ask(t, srv, "PUT", "/v1/tunnels", body)
	}
	if len(srv.Config.Handler.(*Server).sets) != 0 {
		t.Error("a turn was not ended")
	}
}

func TestSetOfAnUnknownOwner(t *testing.T) {
	srv := serve(t, furnished(), Options{})
	for i, want := range []int{1, 0} { // the second time it has tunnels
		_, _, data := ask(t, srv, "PUT", "/v1/tunnels?owner=nobody", setBody(1, tunnelLines(0, 1)...))
		if sum := readOutcome(t, data).summary; len(sum.Warnings) != want || !sum.Complete {
			t.Errorf("push %d: %+v", i, sum)
		}
	}
	_, _, data := ask(t, srv, "PUT", "/v1/tunnels", setBody(0))
	if sum := readOutcome(t, data).summary; len(sum.Warnings) != 0 {
		t.Errorf("its own: %+v", sum)
	}
}
