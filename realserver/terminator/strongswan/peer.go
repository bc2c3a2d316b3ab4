package strongswan

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"tunneldirector/realserver/terminator"
)

// copyPrefix begins the name of a connection that Adopt loads: td-adopt-<16 hex digits>-<the connection that it is a copy of>.
const copyPrefix = "td-adopt-"

const copyDigits = 16

// copyName is the name of the copy of a connection for one tunnel.
func copyName(tunnel, connection string) string {
	return copyPrefix + digest(tunnel) + "-" + connection
}

// original is the connection that one is a copy of, or itself.
func original(connection string) string {
	rest, ok := strings.CutPrefix(connection, copyPrefix)
	if !ok || len(rest) < copyDigits+2 || rest[copyDigits] != '-' {
		return connection
	}
	return rest[copyDigits+1:]
}

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:copyDigits/2])
}

// peerName is what a tunnel's peer is called: by connection and identity. One that is longer than names may be, also with where the
// site is, is cut.
func peerName(connection, identity string) string {
	name := original(connection) + " " + identity
	if len(name) > terminator.MaxName {
		return fmt.Sprintf("%s~%s", name[:terminator.MaxName-copyDigits-1], digest(name))
	}
	return name
}
