package main

import (
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"tunneldirector/cluster"
)

// memoryFile is beside the store's files, and stays when they are moved aside.
const memoryFile = "peers.json"

// remembered is what a director knows of another one: its store, so that an old copy of it is told from the store, and where it
// gossips, so that it is found again though no node's file names it.
type remembered struct {
	Store  string         `json:"store"`
	Boot   uint64         `json:"boot"`
	Seen   time.Time      `json:"seen"`
	Gossip netip.AddrPort `json:"gossip,omitzero"`
	Rank   int            `json:"rank,omitempty"`
	Role   cluster.Role   `json:"role,omitempty"`
	Left   time.Time      `json:"left,omitzero"` // since when it is away in good order
}

// memory is kept on disk: best effort, since it only guards against stores that come back from the past.
type memory struct {
	path string
	log  *slog.Logger

	mu    sync.Mutex
	Peers map[string]remembered `json:"peers"`
	Seen  time.Time             `json:"seen"` // when any other director was last there
}

func openMemory(dir string, log *slog.Logger) *memory {
	m := &memory{path: filepath.Join(dir, memoryFile), log: log, Peers: map[string]remembered{}}
	b, err := os.ReadFile(m.path)
	if err == nil {
		err = json.Unmarshal(b, m)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Warn("what was known of other directors' stores is lost", "error", err)
	}
	if m.Peers == nil {
		m.Peers = map[string]remembered{}
	}
	return m
}

// Recall is the store that a director had, and how often that had been opened.
func (m *memory) Recall(name string) (store string, boot uint64, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.Peers[name]
	return p.Store, p.Boot, p.Store != "" // there may be no more than an address
}

// Remember keeps what a director says of its store.
func (m *memory) Remember(name, store string, boot uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now().UTC()
	p := m.Peers[name]
	p.Store, p.Boot, p.Seen = store, boot, now
	m.Peers[name], m.Seen = p, now
	m.save()
}

// meet keeps what others say of themselves: where they gossip, and whether they left. One that was forgotten comes back only by
// being a member again.
func (m *memory) meet(peers []cluster.Peer, at map[string]netip.AddrPort) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now, news := time.Now().UTC(), false
	for _, peer := range peers {
		name := peer.Member.Name
		p, known := m.Peers[name]
		a, member := at[name]
		if !known && !member {
			continue
		}
		was := p
		p.Rank, p.Role = peer.Member.Rank, peer.Member.Role
		if member {
			p.Gossip = a
		}
		switch leaves := peer.Member.Leaving || peer.Beat.Leaving; {
		case leaves && p.Left.IsZero():
			p.Left = now
		case peer.Alive && !leaves:
			p.Left = time.Time{}
		}
		if p != was {
			if p.Seen.IsZero() {
				p.Seen = now
			}
			m.Peers[name], news = p, true
		}
	}
	if news {
		m.save()
	}
}

// gossipers are where the directors that are remembered gossip.
func (m *memory) gossipers() []netip.AddrPort {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []netip.AddrPort
	for _, p := range m.Peers {
		if p.Gossip.IsValid() {
			out = append(out, p.Gossip)
		}
	}
	return out
}

// forget drops a director.
func (m *memory) forget(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.Peers, name)
	m.save()
}

// touch notes that another director is there.
func (m *memory) touch() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.Seen = time.Now().UTC()
	m.save()
}

// all are the directors that were ever seen, and not forgotten.
func (m *memory) all() map[string]remembered {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.Peers)
}

// away is for how long no other director was seen before this start; 0: none was ever.
func (m *memory) away() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.Seen.IsZero() {
		return 0
	}
	return time.Since(m.Seen)
}

func (m *memory) save() {
	b, err := json.MarshalIndent(m, "", "  ")
	if err == nil {
		err = replaceFile(m.path, b, 0o600, nil)
	}
	if err != nil {
		m.log.Warn("remember other directors' stores", "error", err)
	}
}
