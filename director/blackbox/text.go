package blackbox

import (
	"strings"
	"unicode"
)

const (
	maxWhy    = 500 // bytes of what is said in words
	maxObject = 200 // bytes
	more      = "..."
)

// clean is t in words that any reader can show.
func clean(t Trigger) Trigger {
	t.Object, t.Why = line(t.Object, maxObject), line(t.Why, maxWhy)
	return t
}

// line is s as one line of text, of some bytes at most.
func line(s string, most int) string {
	long := len(s) > most
	if long {
		s = s[:most-len(more)]
	}
	s = strings.TrimSpace(strings.Map(func(c rune) rune {
		if unicode.IsControl(c) {
			return ' '
		}
		return c
	}, strings.ToValidUTF8(s, "")))
	if long {
		s += more
	}
	return s
}
