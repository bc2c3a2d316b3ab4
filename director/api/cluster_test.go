package api

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"
)

// clusterLab is a director among three, one of which is dead.
type clusterLab struct {
	*lab
	keys      [][]byte // the first is the primary, on d1 and d2 alike
	left      bool
	forgotten []string
	fails     error
}

func newClusterLab() *clusterLab {
	return &clusterLab{lab: furnished(), keys: [][]byte{bytes.Repeat([]byte{1}, 32)}}
}

func (l *clusterLab) Members(context.Context) (ClusterStatus, error) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	heard := 12.5
	return ClusterStatus{Name: "prod", Self: "d1", Assigner: "d1", AssignerWhy: "lowest rank of the live ones (1)", Members: []MemberStatus{
		{Name: "d1", Self: true, Rank: 1, Role: "both", State: MemberAlive, Since: now, Ready: true},
		{Name: "d2", Rank: 2, Role: "both", State: MemberAlive, Since: now, Paths: []Path{{Address: "10.0.0.2:7464", HeardMS: &heard}}, Lag: Lag{3, 0.5}},
		{Name: "d3", Rank: 3, Role: "subnet", State: MemberDead, Since: now},
	}, Addresses: []AddressOwner{{Address: "192.0.2.10", Kind: "vip", Of: "ipsec", Owner: "d1", Why: "number 1 of its preference list", Held: true}}}, l.fails
}

func (l *clusterLab) Leave(context.Context) error {
	l.left = true
	return l.fails
}

func (l *clusterLab) Forget(_ context.Context, name string) error {
	if name != "d3" {
		return fmt.Errorf("forget %s: %w", name, ErrNoMember)
	}
	l.forgotten = append(l.forgotten, name)
	return l.fails
}

func (l *clusterLab) Keyring(context.Context) (list []KeyInfo, err error) {
	for i, k := range l.keys {
		info := KeyInfo{Fingerprint: KeyFingerprint(k), On: []string{"d1", "d2"}, Missing: []string{"d3"}}
		if i == 0 {
			info.PrimaryOn = info.On
		}
		list = append(list, info)
	}
	return list, l.fails
}

func (l *clusterLab) KeyringChange(_ context.Context, c KeyringChange) error {
	i := slices.IndexFunc(l.keys, func(k []byte) bool { return KeyFingerprint(k) == c.Fingerprint })
	switch {
	case c.Do == KeyAdd && i < 0:
		l.keys = append(l.keys, c.Key)
	case c.Do != KeyAdd && i < 0:
		return fmt.Errorf("%s: %w", c.Fingerprint, ErrNoKey)
	case c.Do == KeyUse:
		k := l.keys[i]
		l.keys = slices.Insert(slices.Delete(l.keys, i, i+1), 0, k)
	case c.Do == KeyRemove && i == 0:
		return problem(409, kindConflict, "it seals")
	case c.Do == KeyRemove:
		l.keys = slices.Delete(l.keys, i, i+1)
	}
	return l.fails
}

func TestCluster(t *testing.T) {
	first := KeyFingerprint(bytes.Repeat([]byte{1}, 32))
	second := bytes.Repeat([]byte{2}, 16)
	b64 := base64.StdEncoding.EncodeToString
	for _, tt := range []struct {
		name, method, path, body string
		status                   int
		contains                 []string
	}{
		{"status", "GET", "/v1/cluster", "", 200, []string{`"assigner":"d1"`, `"heard_ms":12.5`, `"paths":[]`, `"problems":[]`, `"holders":[]`, `"lag":{"records":3,"seconds":0.5}`}},
		{"leave", "POST", "/v1/cluster/leave", "", 200, []string{`"done":true`}},
		{"forget", "POST", "/v1/cluster/forget/d3", "", 200, []string{`"done":true`}},
		{"forget who is alive", "POST", "/v1/cluster/forget/d2", "", 409, []string{"director d2 is alive: only who is dead is forgotten"}},
		{"forget itself", "POST", "/v1/cluster/forget/d1", "", 409, []string{"director d1 is alive"}},
		{"forget nobody", "POST", "/v1/cluster/forget/d9", "", 404, []string{"forget d9: no such director"}},
		{"keys", "GET", "/v1/cluster/keyring", "", 200, []string{`"fingerprint":"` + first + `","on":["d1","d2"],"primary_on":["d1","d2"],"missing":["d3"]`}},
		{"add one", "POST", "/v1/cluster/keyring", `{"do":"add"}`, 200, []string{`"fingerprint":"`}},
		{"add this", "POST", "/v1/cluster/keyring", `{"do":"add","key":"` + b64(second) + `"}`, 200, []string{`"fingerprint":"` + KeyFingerprint(second) + `"`}},
		{"add half of one", "POST", "/v1/cluster/keyring", `{"do":"add","key":"` + b64(second[:8]) + `"}`, 422, []string{`"field":"key"`, "16, 24 or 32 bytes"}},
		{"add what is none", "POST", "/v1/cluster/keyring", `{"do":"add","key":"SECRET!"}`, 422, []string{`"field":"key"`}},
		{"add under another's name", "POST", "/v1/cluster/keyring", `{"do":"add","key":"` + b64(second) + `","fingerprint":"` + first + `"}`, 422, []string{`"field":"fingerprint"`}},
		{"use", "POST", "/v1/cluster/keyring", `{"do":"use","fingerprint":"` + first + `"}`, 200, []string{first}},
		{"use another", "POST", "/v1/cluster/keyring", `{"do":"use","fingerprint":"0123456789ab"}`, 404, []string{"no such key"}},
		{"use a key", "POST", "/v1/cluster/keyring", `{"do":"use","key":"` + b64(second) + `"}`, 422, []string{`"field":"key"`, "by its fingerprint"}},
		{"use nothing", "POST", "/v1/cluster/keyring", `{"do":"use"}`, 422, []string{`"field":"fingerprint"`}},
		{"remove the primary", "POST", "/v1/cluster/keyring", `{"do":"remove","fingerprint":"` + first + `"}`, 409, []string{"it seals"}},
		{"do what", "POST", "/v1/cluster/keyring", `{"do":"rotate"}`, 422, []string{"one of add, use, remove"}},
		{"empty", "POST", "/v1/cluster/keyring", "", 400, []string{"the body is empty"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newClusterLab()
			var log bytes.Buffer
			status, _, data := ask(t, serve(t, l, Options{Log: slog.New(slog.NewTextHandler(&log, nil))}), tt.method, tt.path, tt.body)
			if status != tt.status {
				t.Errorf("status %d, want %d: %s", status, tt.status, data)
			}
			for _, s := range tt.contains {
				if !strings.Contains(string(data), s) {
					t.Errorf("%s lacks %s", data, s)
				}
			}
			if status != 200 && (l.left || l.forgotten != nil || len(l.keys) != 1) {
				t.Errorf("it was done all the same")
			}
			for _, secret := range append(l.keys, second, []byte("SECRET!")) {
				for _, s := range []string{b64(secret), string(secret)} {
					if strings.Contains(log.String(), s) || strings.Contains(string(data), s) {
						t.Errorf("a key is told: %s %s", data, &log)
					}
				}
			}
		})
	}
}

// A director that is alone says so, whether it knows of clusters or not.
func TestAlone(t *testing.T) {
	alone := newClusterLab()
	alone.fails = ErrAlone
	for name, d := range map[string]Director{"none": furnished(), "says so": alone} {
		srv := serve(t, d, Options{})
		for _, x := range []struct{ method, path, body string }{
			{"GET", "/v1/cluster", ""}, {"POST", "/v1/cluster/leave", ""}, {"POST", "/v1/cluster/forget/d2", ""}, {"GET", "/v1/cluster/keyring", ""},
			{"POST", "/v1/cluster/keyring", `{"do":"add"}`},
		} {
			if status, _, data := ask(t, srv, x.method, x.path, x.body); status != 409 || !strings.Contains(string(data), "this director is alone: no cluster section") {
				t.Errorf("%s: %s %s: %d %s", name, x.method, x.path, status, data)
			}
		}
	}
}

func TestClusterNeedsOperator(t *testing.T) {
	srv := serve(t, newClusterLab(), Options{Tokens: testTokens})
	for _, x := range []struct {
		method, path, token string
		status              int
	}{
		{"GET", "/v1/cluster", "s-read", 200}, {"GET", "/v1/cluster/keyring", "s-read", 403}, {"POST", "/v1/cluster/keyring", "s-nms", 403},
		{"POST", "/v1/cluster/leave", "s-nms", 403}, {"POST", "/v1/cluster/forget/d3", "s-nms", 403}, {"GET", "/v1/cluster/keyring", "s-op", 200},
	} {
		if status, _, data := ask(t, srv, x.method, x.path, "", "Authorization", "Bearer "+x.token); status != x.status {
			t.Errorf("%s %s by %s: %d %s", x.method, x.path, x.token, status, data)
		}
	}
}

func TestClusterClient(t *testing.T) {
	l := newClusterLab()
	c, err := NewClient(ClientOptions{URL: serve(t, l, Options{}).URL})
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	st, err := c.Cluster(ctx)
	if err != nil || len(st.Members) != 3 || *st.Members[1].Paths[0].HeardMS != 12.5 {
		t.Errorf("%+v %v", st, err)
	}
	first := KeyFingerprint(l.keys[0])
	fingerprint, err := c.ChangeKeyring(ctx, KeyringRequest{Do: KeyAdd})
	if err != nil || len(l.keys) != 2 || fingerprint != KeyFingerprint(l.keys[1]) {
		t.Fatalf("%q %v", fingerprint, err)
	}
	for _, k := range []KeyringRequest{{Do: KeyUse, Fingerprint: fingerprint}, {Do: KeyRemove, Fingerprint: first}} {
		if _, err := c.ChangeKeyring(ctx, k); err != nil {
			t.Error(err)
		}
	}
	if list, err := c.Keyring(ctx); err != nil || len(list) != 1 || list[0].Fingerprint != fingerprint {
		t.Errorf("%+v %v", list, err)
	}
	already, err := c.LeaveCluster(ctx)
	if err := errors.Join(c.ForgetDirector(ctx, "d3"), err); err != nil || already || !l.left || len(l.forgotten) != 1 {
		t.Errorf("%v", err)
	}
	l.fails = ErrLeft
	if already, err := c.LeaveCluster(ctx); err != nil || !already {
		t.Errorf("leave again: %v, already=%v", err, already)
	}
}
