package config

import (
	"math"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/goccy/go-yaml/ast"

	"tunneldirector/director/config/tree"
)

// text reads text. What YAML takes for something else needs quotes.
func (v value) text() (string, bool) {
	s, ok := tree.Text(v.node)
	if !ok && v.node != nil {
		v.fault("is %s, not text; put it in quotes", tree.Kind(v.node))
	}
	return s, ok
}

func (v value) string(dst *string) {
	if s, ok := v.text(); ok {
		*dst = s
	}
}

// names are used in paths of the API, in metrics and in file names.
var nameRE = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$`)

func (v value) name(dst *string) bool {
	s, ok := v.text()
	if !ok {
		return false
	}
	if !nameRE.MatchString(s) {
		v.fault("%q is not a name: 1 to 128 letters, digits and . _ : - that start with a letter or a digit", s)
		return false
	}
	*dst = s
	return true
}

// tenant reads the name of a tenant; the API too calls the one without a name default.
func (v value) tenant(dst *string) bool {
	ok := v.name(dst)
	if ok {
		*dst = tenantName(*dst)
	}
	return ok
}

func tenantName(s string) string {
	if s == "default" {
		return ""
	}
	return s
}

// hexText reads text that YAML may take for a number: 64 hex digits may happen to be decimal ones.
func (v value) hexText() (string, bool) {
	switch n := v.node.(type) {
	case *ast.IntegerNode:
		return n.Token.Value, true
	case *ast.FloatNode:
		return n.Token.Value, true
	case *ast.InfinityNode:
		return n.Token.Value, true
	}
	return v.text()
}

// file reads the absolute path of a file or directory.
func (v value) file(dst *string) {
	s, ok := v.text()
	if !ok {
		return
	}
	if !filepath.IsAbs(s) || strings.ContainsRune(s, 0) {
		v.fault("%q is not an absolute path", s)
		return
	}
	*dst = filepath.Clean(s)
}

func (v value) oneOf(dst *string, words ...string) {
	s, ok := v.text()
	if !ok {
		return
	}
	if !slices.Contains(words, s) {
		v.fault("%q is not one of %s", s, strings.Join(words, ", "))
		return
	}
	*dst = s
}

// number reads a whole number between low and high.
func (v value) number(low, high uint64) (uint64, bool) {
	if v.node == nil {
		return 0, false
	}
	n, ok := v.node.(*ast.IntegerNode)
	if !ok {
		v.fault("is %s, not a whole number between %d and %d", tree.Kind(v.node), low, high)
		return 0, false
	}
	x, isUint := n.Value.(uint64)
	if i, isInt := n.Value.(int64); isInt && i >= 0 {
		x, isUint = uint64(i), true
	}
	if !isUint || x < low || x > high {
		v.fault("%s is not between %d and %d", n.Token.Value, low, high)
		return 0, false
	}
	return x, true
}

func (v value) uint32(dst *uint32, low, high uint32) {
	if n, ok := v.number(uint64(low), uint64(high)); ok {
		*dst = uint32(n)
	}
}

func (v value) int(dst *int, low, high int) {
	if n, ok := v.number(uint64(low), uint64(high)); ok {
		*dst = int(n)
	}
}

func (v value) uint16(dst *uint16, low, high uint16) {
	if n, ok := v.number(uint64(low), uint64(high)); ok {
		*dst = uint16(n)
	}
}

func (v value) bool(dst *bool) {
	if v.node == nil {
		return
	}
	n, ok := v.node.(*ast.BoolNode)
	if !ok {
		v.fault("is %s, not true or false", tree.Kind(v.node))
		return
	}
	*dst = n.Value
}

func (v value) duration(dst *time.Duration, low, high time.Duration) {
	s, ok := v.measure("200ms or 5s")
	if !ok {
		return
	}
	d, err := time.ParseDuration(s)
	switch {
	case err != nil:
		v.fault("%q is not a duration; write a number and a unit: 200ms or 5s", s)
	case d < low || d > high:
		v.fault("%s is not between %s and %s", s, low, high)
	default:
		*dst = d
	}
}

// size reads a number of bytes with its unit.
func (v value) size(dst *uint64, low, high uint64) {
	s, ok := v.measure("256MiB")
	if !ok {
		return
	}
	n, err := humanize.ParseBytes(s)
	switch {
	case err != nil || n == math.MaxUint64 || !strings.ContainsAny(s, "bB"):
		v.fault("%q is not a size; write a number and a unit: 256MiB", s)
	case n < low || n > high:
		v.fault("%s is not between %s and %s", s, humanize.IBytes(low), humanize.IBytes(high))
	default:
		*dst = n
	}
}

// measure reads the text of a number with a unit, and has a word for numbers without.
func (v value) measure(example string) (string, bool) {
	if _, bare := v.node.(*ast.IntegerNode); bare {
		v.fault("%s lacks a unit; write %s", v.node.GetToken().Value, example)
		return "", false
	}
	return v.text()
}

func (v value) mode(dst *uint32) {
	s, ok := v.text()
	if !ok {
		return
	}
	m, err := strconv.ParseUint(s, 8, 32)
	if err != nil || m == 0 || m > 0o777 {
		v.fault(`%q is not a file mode; write it in quotes and octal: "0660"`, s)
		return
	}
	*dst = uint32(m)
}

func (v value) addr() (netip.Addr, bool) {
	s, ok := v.text()
	if !ok {
		return netip.Addr{}, false
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		v.fault("%q is not an IP address", s)
		return netip.Addr{}, false
	}
	return a, true
}

func (v value) prefix() (netip.Prefix, bool) {
	s, ok := v.text()
	if !ok {
		return netip.Prefix{}, false
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		v.fault("%q is not a prefix; write an address and a length: 100.64.0.0/10", s)
		return netip.Prefix{}, false
	}
	return p, true
}

// hostPort reads where a TCP socket listens: an IP address or localhost, and a port.
func (v value) hostPort() (string, bool) {
	s, ok := v.text()
	if !ok {
		return "", false
	}
	rest, isName := strings.CutPrefix(s, "localhost:")
	if isName {
		if n, err := strconv.ParseUint(rest, 10, 16); err == nil && n > 0 {
			return s, true
		}
	}
	if a, err := netip.ParseAddrPort(s); err == nil && a.Port() > 0 {
		return a.String(), true
	}
	v.fault("%q is not ADDRESS:PORT; write 127.0.0.1:8480, [::1]:8480, or [::]:8480 for all addresses", s)
	return "", false
}

func isLoopback(hostPort string) bool {
	if strings.HasPrefix(hostPort, "localhost:") {
		return true
	}
	a, err := netip.ParseAddrPort(hostPort)
	return err == nil && a.Addr().Unmap().IsLoopback()
}
