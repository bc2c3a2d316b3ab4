package console

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
)

// Number writes 1234567 as 1,234,567.
func Number[T ~int | ~int64 | ~uint16 | ~uint32 | ~uint64](n T) string {
	if uint64(n) > math.MaxInt64 && n > 0 {
		return strconv.FormatUint(uint64(n), 10)
	}
	return humanize.Comma(int64(n))
}

// Some writes a number of things: 1 tunnel, 2 tunnels.
func Some[T ~int | ~int64 | ~uint32 | ~uint64](n T, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return Number(n) + " " + thing + "s"
}

// Octets writes a number of bytes: 1.5 KiB.
func Octets(n uint64) string { return humanize.IBytes(n) }

// Ago writes how long ago something was: 3m 20s ago; nothing for no time.
func Ago(now, at time.Time) string {
	d := now.Sub(at)
	switch {
	case at.IsZero():
		return ""
	case d < 0:
		return "in the future"
	case d < time.Second:
		return "just now"
	}
	return Span(d) + " ago"
}

// Span writes a duration in its two largest units.
func Span(d time.Duration) string {
	units := []struct {
		name string
		size time.Duration
	}{{"d", 24 * time.Hour}, {"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}}
	if d < time.Second {
		return d.Round(time.Millisecond).String()
	}
	var out []string
	for _, u := range units {
		if n := d / u.size; n > 0 {
			out = append(out, fmt.Sprintf("%d%s", n, u.name))
			d -= n * u.size
		} else if len(out) > 0 {
			break
		}
		if len(out) == 2 {
			break
		}
	}
	return strings.Join(out, " ")
}
