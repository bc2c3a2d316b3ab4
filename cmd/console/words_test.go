package console

import (
	"testing"
	"time"
)

func TestWords(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	tests := []struct{ got, want string }{
		{Number(1234567), "1,234,567"}, {Number(uint64(1) << 63), "9223372036854775808"}, {Some(1, "tunnel"), "1 tunnel"}, {Some(2000, "tunnel"), "2,000 tunnels"}, {Octets(1536), "1.5 KiB"},
		{Ago(now, now), "just now"}, {Ago(now, now.Add(time.Hour)), "in the future"}, {Ago(now, time.Time{}), ""}, {Ago(now, now.Add(-90*time.Second)), "1m 30s ago"},
		{Span(26*time.Hour + 5*time.Minute), "1d 2h"}, {Span(24*time.Hour + 5*time.Minute), "1d"}, {Span(40 * time.Millisecond), "40ms"},
	}
	for _, tt := range tests {
		if tt.got != tt.want {
			t.Errorf("got %q, want %q", tt.got, tt.want)
		}
	}
}
