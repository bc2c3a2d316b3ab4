package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"tunneldirector/cmd/console"
)

// bits writes a rate in bit/s; nothing for none.
func bits(bps uint64) string {
	if bps == 0 {
		return ""
	}
	return humanize.SIWithDigits(float64(bps), 1, "bit/s")
}

// moment writes a time, and how long ago it was.
func moment(now, at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return utc(at) + " (" + console.Ago(now, at) + ")"
}

func utc(at time.Time) string { return at.UTC().Format("2006-01-02 15:04:05Z") }

// until writes a time to come, and how far away it is.
func until(now, at time.Time) string {
	if d := at.Sub(now); d >= time.Second {
		return utc(at) + " (in " + console.Span(d) + ")"
	}
	return utc(at) + " (now)"
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
