package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"time"
)

// A Cluster is a Director that is one of several, or could be: where it is alone, each method answers ErrAlone. What is
// refused for a reason that the caller can mend is a *Problem, or wraps ErrNoMember or ErrNoKey.
type Cluster interface {
	// Members is who is there, and how each stands. It does not block.
	Members(ctx context.Context) (ClusterStatus, error)
	// Leave says to all others that this director goes, and gives its addresses up; it returns when the others know. The daemon goes
	// on forwarding until it is stopped. ErrLeft: it has done so before.
	Leave(ctx context.Context) error
	// Forget has all directors forget one that is gone for good, so that nothing waits for it any more.
	Forget(ctx context.Context, name string) error
	// Keyring are the keys as fingerprints, those of every director that answers.
	Keyring(ctx context.Context) ([]KeyInfo, error)
	// KeyringChange changes the ring here, then on all other directors that are alive. An error names those where it was not
	// done; where it was, it stays: doing it again, with the same key, does no harm.
	KeyringChange(ctx context.Context, c KeyringChange) error
}

var (
	// ErrAlone answers a director without a section cluster.
	ErrAlone = errors.New("this director is alone: no cluster section")
	// ErrLeft answers who leaves again.
	ErrLeft = errors.New("this director has left already")
	// ErrNoMember answers for a name that no member has.
	ErrNoMember = errors.New("no such director in this cluster")
	// ErrNoKey answers for a fingerprint that no key in the ring has.
	ErrNoKey = errors.New("no such key in the ring")
)

// The states of a director in a ClusterStatus.
const (
	MemberAlive   = "alive"
	MemberLeaving = "leaving"
	MemberDead    = "dead"
	MemberLeft    = "left" // it is gone in good order
)

// ClusterStatus is the cluster as one director sees it.
type ClusterStatus struct {
	Name        string         `json:"name" doc:"of the cluster"`
	Self        string         `json:"self" doc:"the director that says all this"`
	Assigner    string         `json:"assigner,omitempty" doc:"who places groups and judges real servers; missing: nobody is ready"`
	AssignerWhy string         `json:"assigner_why"`
	Members     []MemberStatus `json:"members" doc:"this director among them, by rank"`
	Addresses   []AddressOwner `json:"addresses" doc:"VIPs and gateways"`
	Problems    []string       `json:"problems" doc:"what is wrong, in sentences"`
}

// MemberStatus is one director as another one, or itself, sees it.
type MemberStatus struct {
	Name  string    `json:"name"`
	Self  bool      `json:"self,omitempty"`
	Rank  int       `json:"rank"`
	Role  string    `json:"role" enum:"both,tunnel,subnet"`
	State string    `json:"state" enum:"alive,leaving,dead,left"`
	Since time.Time `json:"since" doc:"of the state"`

	Ready    bool    `json:"ready" doc:"it holds the table"`
	ReadyFor float64 `json:"ready_for_seconds"`
	Sick     bool    `json:"sick" doc:"it cannot reach real servers that a live peer reaches"`
	Hung     bool    `json:"hung" doc:"its loop does not turn"`
	Doing    string  `json:"doing,omitempty" doc:"what it is at: catching up 1200 of 5000 records"`

	ClockOffset float64 `json:"clock_offset_seconds" doc:"its clock less that of the director that says this"`
	Stream      string  `json:"stream" doc:"address that it takes streams of directors at"`
	Gossip      string  `json:"gossip" doc:"address that it gossips at"`
	Paths       []Path  `json:"paths" doc:"ways that its heartbeats come"`

	Lag    Lag        `json:"lag" doc:"what it has not acknowledged of the records that are here"`
	Behind Lag        `json:"behind" doc:"what it has, as far as it is known here, and this director has not"`
	Digest DigestWord `json:"digest"`

	Version string `json:"version,omitempty" doc:"of the program"`
	Format  int    `json:"format,omitempty" doc:"of what it says to other directors"`
	Store   string `json:"store,omitempty" doc:"store id"`
}

// A Path is one way on which a director's heartbeats come.
type Path struct {
	Address string   `json:"address"`
	HeardMS *float64 `json:"heard_ms,omitempty" doc:"milliseconds since the last heartbeat; missing: never"`
	Lost    float64  `json:"lost" doc:"share of the last heartbeats that did not come, 0 to 1"`
}

// Lag is how far one director is behind another.
type Lag struct {
	Records uint64  `json:"records"`
	Seconds float64 `json:"seconds" doc:"for which the oldest of them has waited"`
}

// DigestWord tells whether two directors hold the same table.
type DigestWord struct {
	Known bool       `json:"known" doc:"false: they have not compared yet"`
	Equal bool       `json:"equal"`
	Since *time.Time `json:"since,omitempty" doc:"when that changed last"`
}

// AddressOwner is who is to hold an address.
type AddressOwner struct {
	Address string   `json:"address"`
	Kind    string   `json:"kind" enum:"vip,gateway"`
	Of      string   `json:"of" doc:"service of a VIP, tenant of a gateway"`
	Prefer  []string `json:"prefer,omitempty" doc:"directors, the most wanted first"`
	Owner   string   `json:"owner,omitempty" doc:"missing: nobody may hold it; with addresses: all, each director is"`
	Why     string   `json:"why"`
	Held    bool     `json:"held" doc:"by the director that says this"`
	Holders []string `json:"holders" doc:"directors that say they hold it"`
}

// KeyInfo is a key that gossip and heartbeats are sealed with. The key itself is told to nobody.
type KeyInfo struct {
	Fingerprint string   `json:"fingerprint"`
	On          []string `json:"on" doc:"directors that have it in their rings"`
	PrimaryOn   []string `json:"primary_on" doc:"of those, who seals with it"`
	Missing     []string `json:"missing" doc:"members that lack it, or do not answer"`
}

// The changes of a keyring.
const (
	KeyAdd    = "add"    // open with it too
	KeyUse    = "use"    // seal with it
	KeyRemove = "remove" // neither; never of the one that seals
)

// A KeyringChange is one step of a key's life on every director.
type KeyringChange struct {
	Do          string
	Key         []byte // of KeyAdd
	Fingerprint string // of the key
	Force       bool   // though a director would be locked out
}

// A KeyringRequest asks for a KeyringChange.
type KeyringRequest struct {
	Do          string `json:"do" enum:"add,use,remove"`
	Key         string `json:"key,omitempty" doc:"add: 16, 24 or 32 bytes in base64; missing: the director makes one of 32"`
	Fingerprint string `json:"fingerprint,omitempty" doc:"use, remove: which one"`
	Force       bool   `json:"force,omitempty" doc:"use, remove: though a director that lacks the key, or is dead, would be locked out"`
}

// KeyFingerprint is how a key is called where it must not be said, in rings on disk too (gossip.Fingerprint).
func KeyFingerprint(key []byte) string {
	sum := sha256.Sum256(append([]byte("tunneldirector-keyring\x00"), key...))
	return hex.EncodeToString(sum[:6])
}

// fill makes empty what would be null.
func (st *ClusterStatus) fill() {
	fillList(&st.Members)
	for i := range st.Members {
		fillList(&st.Members[i].Paths)
	}
	fillList(&st.Addresses)
	for i := range st.Addresses {
		fillList(&st.Addresses[i].Holders)
	}
	fillList(&st.Problems)
}
