package gossip

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/fxamacker/cbor/v2"

	"tunneldirector/cluster"
)

// metaVersion is the first byte of a node's metadata. Fields may be added to meta without another one: who does not know them
// skips them.
const metaVersion = 1

// maxMeta is the most bytes that memberlist carries for a node.
const maxMeta = 512

// meta is what gossip carries of a member besides its name.
type meta struct {
	Rank    int              `cbor:"1,keyasint"`
	Role    cluster.Role     `cbor:"2,keyasint"`
	Stream  netip.AddrPort   `cbor:"3,keyasint"`
	Beats   []netip.AddrPort `cbor:"4,keyasint"`
	Leaving bool             `cbor:"5,keyasint,omitempty"`
}

// encodeMeta writes a node's metadata.
func encodeMeta(m cluster.Member) ([]byte, error) {
	body, err := cbor.Marshal(meta{m.Rank, m.Role, m.Stream, m.Beats, m.Leaving})
	if err != nil {
		return nil, fmt.Errorf("encode member %s: %w", m.Name, err)
	}
	if len(body)+1 > maxMeta {
		return nil, fmt.Errorf("encode member %s: its addresses take %d bytes, and gossip carries %d", m.Name, len(body)+1, maxMeta)
	}
	return append([]byte{metaVersion}, body...), nil
}

// decodeMeta reads the metadata of the node of a name.
func decodeMeta(name string, data []byte) (cluster.Member, error) {
	switch {
	case len(data) == 0:
		return cluster.Member{}, errors.New("it has no metadata: is it a director?")
	case data[0] > metaVersion:
		return cluster.Member{}, fmt.Errorf("format %d of its metadata is newer than this program's (%d): upgrade this director", data[0], metaVersion)
	case data[0] != metaVersion:
		return cluster.Member{}, fmt.Errorf("there is no format %d of metadata: is it a director?", data[0])
	}
	var m meta
	if err := cbor.Unmarshal(data[1:], &m); err != nil {
		return cluster.Member{}, fmt.Errorf("its metadata cannot be read: %w", err)
	}
	known := m.Role == cluster.RoleBoth || m.Role == cluster.RoleTunnel || m.Role == cluster.RoleSubnet
	if m.Rank < 1 || m.Rank > cluster.MaxRank || !known {
		return cluster.Member{}, fmt.Errorf("its metadata says rank %d and role %.20q", m.Rank, m.Role)
	}
	return cluster.Member{Name: name, Rank: m.Rank, Role: m.Role, Stream: m.Stream, Beats: m.Beats, Leaving: m.Leaving}, nil
}
