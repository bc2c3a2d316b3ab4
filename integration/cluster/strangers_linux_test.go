package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"tunneldirector/cluster/gossip"
	"tunneldirector/director/api"
	"tunneldirector/integration/daemon"
	"tunneldirector/integration/lab"
	"tunneldirector/integration/programs"
)

// TestStrangers: a director that is wrong in its keys, its certificate, its cluster, its name or its rank joins nobody, each side says
// why, and the one that was there before is not disturbed.
func TestStrangers(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var err error
	r.authority, err = daemon.NewAuthority(r.dir)
	r.must("make an authority", err)
	r.newLab(lab.Options{Directors: 2, Sites: 1, RealServers: 1, Bare: true})
	first := r.configured(0, r.authority, daemon.Membership{}, func(s string) string { return joins.ReplaceAllString(s, "") }, "first")
	r.must("start the first", first.Start(r.ctx))
	_, err = first.Command("apply", filepath.Join(filepath.Dir(first.Config()), "records.yaml"))
	r.must("apply", err)
	for i, c := range []struct {
		name      string
		authority *daemon.Authority
		member    daemon.Membership
		change    func(text string) string
		first     string // what the first director says
		second    string // what the second one says
		stranger  bool   // the first one does not take it for a member
	}{
		{name: "keyring", member: daemon.Membership{Keyring: r.keyring()},
			first: "seals with a key that is not on this keyring", second: "its keyring differs from this one's", stranger: true},
		{name: "certificate", authority: r.otherAuthority("lab"), member: daemon.Membership{Keyring: filepath.Join(r.dir, "keyring")},
			first: "director d2 is alive, but not connected: ", second: "certificate signed by unknown authority"},
		{name: "cluster", authority: r.otherAuthority("other"), member: daemon.Membership{Keyring: filepath.Join(r.dir, "keyring")},
			first: "it is of another cluster, or no director", second: "director at 10.127.1.2:7463 cannot be joined", stranger: true},
		{name: "name", change: func(s string) string {
			return strings.NewReplacer("name: d2\n", "name: d1\n", "director-d2", "director-d1").Replace(s)
		},
			second: "another director at 198.51.100.2 has this one's name, d1: stop it, or give it another name", stranger: true},
		{name: "rank", member: daemon.Membership{Rank: 1},
			first: "directors d1 and d2 have both rank 1", second: "directors d2 and d1 have both rank 1"},
	} {
		a := c.authority
		if a == nil {
			a = r.authority
		}
		second := r.configured(1, a, c.member, c.change, fmt.Sprint("second", i))
		r.must("start the second", second.Launch())
		r.says(c.name, first, c.first)
		r.says(c.name, second, c.second)
		r.until(15*time.Second, c.name+": members", func() error {
			if err := first.Client.Ready(r.ctx); err != nil {
				return err
			}
			st, err := first.Client.Cluster(r.ctx)
			if err != nil {
				return err
			}
			if known := slices.ContainsFunc(st.Members, func(m api.MemberStatus) bool { return m.Name != "d1" && m.State == api.MemberAlive }); known == c.stranger {
				return fmt.Errorf("the first one takes it for a member: %t; %+v", known, st.Members)
			}
			return nil
		})
		r.must("kill the second", second.Kill())
	}
}

// says waits until a director says so, in its status and in that of the cluster.
func (r *rig) says(what string, d *daemon.Daemon, words string) {
	r.Helper()
	r.until(time.Minute, what, func() error {
		for _, args := range [][]string{{"status"}, {"cluster", "status"}} {
			out, err := d.Command(args...)
			if err != nil {
				return err
			}
			if !strings.Contains(out, words) {
				return fmt.Errorf("director %s of %s does not say %q:\n%s", strings.Join(args, " "), d.On().Title, words, out)
			}
		}
		return nil
	})
}

// joins is whom a director asks for the others.
var joins = regexp.MustCompile(`(?m)^  join: .*$`)

// configured is a director whose file is changed afterwards.
func (r *rig) configured(i int, a *daemon.Authority, m daemon.Membership, change func(string) string, dir string) *daemon.Daemon {
	r.Helper()
	settings, err := a.Member(r.Lab, r.Directors[i], m)
	r.must("certify a director", err)
	o := daemon.Options{On: r.Directors[i], Settings: settings, Dir: filepath.Join(r.dir, dir), Binary: programs.Director(), Log: r.log(dir)}
	r.must("make a directory", os.MkdirAll(o.Dir, 0o755))
	d, err := daemon.New(r.Lab, o)
	r.must("configure a director", err)
	if change != nil {
		r.must("change its file", os.WriteFile(d.Config(), []byte(change(mustRead(r, d.Config()))), 0o644))
	}
	return d
}

// otherAuthority is another one, of a cluster of some name.
func (r *rig) otherAuthority(cluster string) *daemon.Authority {
	r.Helper()
	dir := r.TempDir()
	a, err := daemon.NewAuthorityOf(cluster, dir)
	r.must("make another authority", err)
	return a
}

// keyring is another one.
func (r *rig) keyring() string {
	r.Helper()
	path := filepath.Join(r.TempDir(), "keyring")
	_, err := gossip.CreateKeyring(path)
	r.must("make another keyring", err)
	return path
}
