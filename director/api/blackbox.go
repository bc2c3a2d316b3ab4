package api

import (
	"context"
	"io"
	"net/netip"
	"time"
)

// A Recording is a file of packets that were dropped, written down because of something that happened.
type Recording struct {
	ID      string    `json:"id" doc:"when and why, as 20260102T030405Z-loop"`
	At      time.Time `json:"at" doc:"when it began; it holds packets from before, too"`
	Trigger string    `json:"trigger" enum:"loop,drops,real-server,operator"`
	Object  string    `json:"object,omitempty" doc:"what the trigger is about: a real server, the reason of a drop, who asked"`
	Why     string    `json:"why" doc:"in words"`
	Bytes   int64     `json:"bytes" doc:"size of the file"`
	Open    bool      `json:"open,omitempty" doc:"it is being written"`
}

// RecordingTriggers are the values of a Recording's Trigger.
func RecordingTriggers() []string { return []string{"loop", "drops", "real-server", "operator"} }

// A RecordingList is what one director has on disk, and what it keeps in memory for the next recording.
type RecordingList struct {
	Director   string      `json:"director"`
	Recordings []Recording `json:"recordings" doc:"by time"`
	MaxBytes   int64       `json:"max_bytes" doc:"of all files; the oldest go first"`
	Kept       []KeptDrops `json:"kept" doc:"samples in memory, by reason"`
	Error      string      `json:"error,omitempty" doc:"why the last recording could not be written, or samples cannot be taken"`
}

// KeptDrops are the samples of one reason in memory.
type KeptDrops struct {
	Reason  string    `json:"reason"`
	Samples int       `json:"samples"`
	Last    time.Time `json:"last"`
}

// A PacketFilter says which packets somebody wants to see as they come. What is zero fits all.
type PacketFilter struct {
	Src, Dst         netip.Prefix
	Proto            uint8
	SrcPort, DstPort uint16
}

// A SeenPacket is the beginning of a packet that came in, and what the data plane did with it.
type SeenPacket struct {
	At         time.Time `json:"at"`
	Interface  string    `json:"interface" doc:"that it came in by"`
	Action     string    `json:"action" enum:"forward,drop,pass" doc:"pass: left to the director's own stack"`
	Reason     string    `json:"reason,omitempty" doc:"why it was not forwarded"`
	RealServer string    `json:"real_server,omitempty"`
	Side       string    `json:"side,omitempty" enum:"tunnel,subnet"`
	Service    string    `json:"service,omitempty"`
	Tenant     string    `json:"tenant,omitempty"`
	Length     int       `json:"length" doc:"of the frame, bytes"`
	Foretold   bool      `json:"foretold,omitempty" doc:"the data plane cannot tell what it did with this packet: action, reason and real_server are what it would do by its table"`
	Head       []byte    `json:"head" doc:"its first bytes, from the Ethernet header on, in base64"`
}

// BlackBox is told to a Server once; nil: the data plane shows no packets. What is refused is a *Problem.
type BlackBox interface {
	Recordings() (RecordingList, error)
	// Record begins one, or has the one that goes on be about this, too.
	Record(ctx context.Context, by, why string) (Recording, error)
	// Recording opens the file of one, as pcapng; of one that is being written, what there is. Of one that is not there the error wraps
	// fs.ErrNotExist.
	Recording(id string) (io.ReadCloser, error)
	// Packets calls f for packets that fit, as they come, at most some hundred a second, until ctx ends or f fails. One caller at a
	// time: another is refused, and told who watches.
	Packets(ctx context.Context, by string, w PacketFilter, f func(SeenPacket) error) error
}
