package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
)

// number writes 1234567 as 1,234,567.
func number[T ~int | ~int64 | ~uint16 | ~uint32 | ~uint64](n T) string {
	if uint64(n) > math.MaxInt64 && n > 0 {
		return strconv.FormatUint(uint64(n), 10)
	}
	return humanize.Comma(int64(n))
}

// some writes a number of things: 1 tunnel, 2 tunnels.
func some[T ~int | ~int64 | ~uint32 | ~uint64](n T, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return number(n) + " " + thing + "s"
}

// bits writes a rate in bit/s; nothing for none.
func bits(bps uint64) string {
	if bps == 0 {
		return ""
	}
	return humanize.SIWithDigits(float64(bps), 1, "bit/s")
}

func octets(n uint64) string { return humanize.IBytes(n) }

// moment writes a time, and how long ago it was.
func moment(now, at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return utc(at) + " (" + ago(now, at) + ")"
}

func utc(at time.Time) string { return at.UTC().Format("2006-01-02 15:04:05Z") }

// ago writes how long ago something was: 3m 20s ago.
func ago(now, at time.Time) string {
	d := now.Sub(at)
	switch {
	case d < 0:
		return "in the future"
	case d < time.Second:
		return "just now"
	}
	return span(d) + " ago"
}

// until writes a time to come, and how far away it is.
func until(now, at time.Time) string {
	if d := at.Sub(now); d >= time.Second {
		return utc(at) + " (in " + span(d) + ")"
	}
	return utc(at) + " (now)"
}

// span writes a duration in its two largest units.
func span(d time.Duration) string {
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

// parseBits reads a rate: 2000000, 2M, 2.5Mbit/s, 10G.
func parseBits(s string) (uint64, error) {
	if n, err := strconv.ParseUint(s, 10, 64); err == nil {
		return n, nil
	}
	word := strings.TrimSpace(strings.TrimSuffix(strings.TrimSuffix(s, "/s"), "bit"))
	factor := map[string]float64{"k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
	if word == "" {
		return 0, fmt.Errorf("%q is not a rate; write bit/s, like 2000000, 2M or 1.5G", s)
	}
	by, ok := factor[word[len(word)-1:]]
	if ok {
		word = strings.TrimSpace(word[:len(word)-1])
	} else {
		by = 1
	}
	f, err := strconv.ParseFloat(word, 64)
	if err != nil || !(f >= 0) || f*by > 1e18 {
		return 0, fmt.Errorf("%q is not a rate; write bit/s, like 2000000, 2M or 1.5G", s)
	}
	return uint64(math.Round(f * by)), nil
}
