package terminator

import "path"

// Matches tells whether a connection's name matches a pattern (path.Match); "" matches all, one that is wrong none.
func Matches(pattern, connection string) bool {
	ok, err := path.Match(pattern, connection)
	return pattern == "" || err == nil && ok
}
