package main

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"tunneldirector/cmd/console"
	"tunneldirector/director/api"
)

func fixedNow() time.Time { return time.Now().Truncate(time.Second) }

// A member is a director of three, d1, with a keyring that the others take over late.
type member struct {
	api.Director
	keys      [][]byte // d1's; the first seals
	late      int      // questions for the keyring that d2 and d3 are behind
	behind    [][][]byte
	dead      bool // d3
	left      bool
	forgotten string
}

func (m *member) Members(context.Context) (api.ClusterStatus, error) {
	now := time.Now().Add(-3 * time.Minute)
	heard, silent := 40.0, 9000.0
	d3 := api.MemberStatus{Name: "d3", Rank: 3, Role: "subnet", State: api.MemberAlive, Since: now, Ready: true}
	if m.dead {
		d3.State = api.MemberDead
	}
	return api.ClusterStatus{Name: "prod", Self: "d1", Assigner: "d1", AssignerWhy: "lowest rank of the live ones (1)", Members: []api.MemberStatus{
		{Name: "d1", Self: true, Rank: 1, Role: "both", State: api.MemberAlive, Since: now, Ready: true, ReadyFor: 170, Stream: "10.0.0.1:7462", Version: "1.2.3"},
		{Name: "d2", Rank: 2, Role: "both", State: api.MemberAlive, Since: now, Hung: true, Doing: "catching up 1200 of 5000 records", ClockOffset: -0.012, Stream: "10.0.0.2:7462", Gossip: "10.0.0.2:7463",
			Paths: []api.Path{{Address: "10.0.0.2:7464", HeardMS: &heard, Lost: 0.25}, {Address: "172.16.0.2:7464", HeardMS: &silent}, {Address: "172.16.1.2:7464"}},
			Lag:   api.Lag{Records: 3800, Seconds: 1.5}, Digest: api.DigestWord{Known: true, Since: &now}},
		d3,
	}, Addresses: []api.AddressOwner{{Address: "192.0.2.10", Kind: "vip", Of: "ipsec", Prefer: []string{"d1", "d2"}, Owner: "d1", Why: "number 1 of its preference list", Held: true, Holders: []string{"d1"}}},
		Problems: []string{"director d2 is hung: its loop does not turn"}}, nil
}

func (m *member) Leave(context.Context) error { m.left = true; return nil }

func (m *member) Forget(_ context.Context, name string) error { m.forgotten = name; return nil }

func (m *member) Keyring(context.Context) ([]api.KeyInfo, error) {
	others := m.keys
	if len(m.behind) > 0 {
		others = m.behind[0]
		m.behind = m.behind[1:]
	}
	var out []api.KeyInfo
	all := slices.Clone(m.keys)
	for _, k := range others {
		if !slices.ContainsFunc(all, func(x []byte) bool { return bytes.Equal(x, k) }) {
			all = append(all, k)
		}
	}
	for _, k := range all {
		info := api.KeyInfo{Fingerprint: api.KeyFingerprint(k)}
		rings := map[string][][]byte{"d1": m.keys, "d2": others, "d3": others}
		for _, name := range slices.Sorted(maps.Keys(rings)) {
			ring := rings[name]
			i := slices.IndexFunc(ring, func(x []byte) bool { return bytes.Equal(x, k) })
			if i < 0 {
				info.Missing = append(info.Missing, name)
				continue
			}
			info.On = append(info.On, name)
			if i == 0 {
				info.PrimaryOn = append(info.PrimaryOn, name)
			}
		}
		out = append(out, info)
	}
	return out, nil
}

func (m *member) KeyringChange(_ context.Context, c api.KeyringChange) error {
	before := slices.Clone(m.keys)
	i := slices.IndexFunc(m.keys, func(k []byte) bool { return api.KeyFingerprint(k) == c.Fingerprint })
	switch {
	case c.Do == api.KeyAdd:
		m.keys = append(slices.Clone(m.keys), c.Key)
	case i < 0:
		return fmt.Errorf("%s: %w", c.Fingerprint, api.ErrNoKey)
	case c.Do == api.KeyUse:
		k := m.keys[i]
		m.keys = append([][]byte{k}, slices.Delete(slices.Clone(m.keys), i, i+1)...)
	case len(m.behind) > 0:
		return fmt.Errorf("a key is removed before all do without it")
	default:
		m.keys = slices.Delete(slices.Clone(m.keys), i, i+1)
	}
	for range m.late {
		m.behind = append(m.behind, before)
	}
	return nil
}

// inCluster is a real director that is one of three.
func inCluster(t *testing.T) (*world, *member) {
	w := newWorld(t)
	m := &member{Director: w.d, keys: [][]byte{bytes.Repeat([]byte{1}, 32)}}
	w.hangUp()
	w.server = api.New(m, api.Options{Name: "d1", Version: "1.2.3"})
	w.listen()
	return w, m
}

func TestClusterCommands(t *testing.T) {
	w, m := inCluster(t)
	first := api.KeyFingerprint(m.keys[0])
	w.run("cluster", "members").Exits(console.ExitOK, "d1 (assigns)", "alive, this one", "alive, hung", "40ms ago, 1 of 3 paths", "3,800 records, 1.5s", "differs", "-0.012s", "3m ago")
	w.run("cluster", "members", "--json").Exits(console.ExitOK, `{"members":[{"name":"d1","self":true,`)
	w.run("cluster", "status").Exits(console.ExitOK, "assigns  d1: lowest rank of the live ones (1)", "problem: director d2 is hung", "doing       catching up 1200 of 5000 records",
		"path        10.0.0.2:7464 heard 40ms ago, 25 % lost", "172.16.1.2:7464 never heard", "192.0.2.10  vip", "number 1 of its preference list")
	w.run("cluster", "status", "--check").Exits(console.ExitNotWell).Tells("d2 is hung")
	w.run("cluster", "forget", "d3").Exits(console.ExitRefused).Tells("director d3 is alive: only who is dead is forgotten")
	m.dead = true
	w.run("cluster", "forget", "d3", "--json").Exits(console.ExitOK, `{"forgotten":"d3"}`)
	w.run("cluster", "leave").Exits(console.ExitOK, "stop its daemon now")
	if !m.left || m.forgotten != "d3" {
		t.Errorf("left %v, forgot %q", m.left, m.forgotten)
	}
	w.run("cluster", "keyring", "list").Exits(console.ExitOK, "SEALS ON", first)
	w.feed("AgICAgICAgICAgICAgICAg==\n", "cluster", "keyring", "add", "--key-file", "-").Exits(console.ExitOK, "key "+api.KeyFingerprint(bytes.Repeat([]byte{2}, 16))+" is added")
	r := w.feed("SECRET-AgICAgICAgICAg==\n", "cluster", "keyring", "add", "--key-file", "-").Exits(console.ExitFailed).Tells("is not base64; a key is")
	if strings.Contains(r.ErrOut, "SECRET") {
		t.Errorf("the key is told: %s", r.ErrOut)
	}
	w.run("cluster", "keyring", "use", "00").Exits(console.ExitRefused).Tells("is not a fingerprint")
	w.run("cluster", "keyring", "remove", "0123456789ab").Exits(console.ExitRefused).Tells("no such key")
	w.run("__complete", "--", "--socket", w.socket, "cluster", "forget", "").Exits(console.ExitOK, "d2\talive")
	w.run("__complete", "--", "--socket", w.socket, "cluster", "keyring", "use", "").Exits(console.ExitOK, first)
}

func TestAloneDirector(t *testing.T) {
	w := newWorld(t)
	for _, c := range []string{"cluster members", "cluster status", "cluster leave", "cluster forget d2", "cluster keyring list", "cluster keyring add", "cluster keyring rotate"} {
		w.run(strings.Fields(c)...).Exits(console.ExitRefused).Tells("this director is alone: no cluster section")
	}
}

// The key is changed in three steps, none before all directors have done the one before.
func TestRotate(t *testing.T) {
	w, m := inCluster(t)
	m.late = 2
	old := m.keys[0]
	r := w.run("cluster", "keyring", "rotate").Exits(console.ExitOK, "is added", "is used", "key "+api.KeyFingerprint(old)+" is removed")
	if lines := strings.Split(strings.TrimSpace(r.Out), "\n"); len(lines) != 3 {
		t.Errorf("%q", lines)
	}
	if len(m.keys) != 1 || bytes.Equal(m.keys[0], old) {
		t.Errorf("%d keys", len(m.keys))
	}
	w.run("cluster", "keyring", "add").Exits(console.ExitOK)
	w.run("cluster", "keyring", "rotate").Exits(console.ExitFailed).Tells("there are 2 keys already")
	m.keys, m.behind, m.dead = m.keys[:1], nil, true
	w.run("cluster", "keyring", "rotate").Exits(console.ExitRefused).Tells("nothing was changed: director d3 is dead")
	m.dead, m.late = false, 1000
	w.run("cluster", "keyring", "rotate", "--timeout", "3s").Exits(console.ExitFailed).Tells("not done on all directors within 3s", "lacks it: d2 d3")
}
