package cluster

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"tunneldirector/director/config"
	"tunneldirector/integration/daemon"
	"tunneldirector/integration/lab"
)

// TestTwoDirectors and TestThreeDirectors run examples/ as they are written, their directories apart, from making the cluster on:
// pushes through each director, one table, an owner for each address, and traffic both ways.
func TestTwoDirectors(t *testing.T) {
	t.Parallel()
	r := newExample(t, "two-directors", 2, 2)
	r.works()
}

func TestThreeDirectors(t *testing.T) {
	t.Parallel()
	r := newExample(t, "three-directors", 3, 4)
	r.works()
}

// newExample makes the cluster by the commands of the example's README, and starts it.
func newExample(t *testing.T, name string, directors, realServers int) *rig {
	t.Helper()
	r := newRig(t)
	examples := filepath.Join("..", "..", "examples", name)
	records, err := os.ReadFile(filepath.Join(examples, "records.yaml"))
	r.must("read the example", err)
	r.newLab(lab.Options{Directors: directors, Sites: 4, SiteNamespaces: 2, RealServers: realServers, IPv6: true, Prepare: func(l *lab.Lab, rs *lab.RealServer) error {
		if r.authority == nil {
			r.Lab = l
			r.makeCluster(examples, string(records))
		}
		return r.prepare(l, rs)
	}})
	r.launch(r.d...)
	r.tunnels()
	return r
}

// makeCluster makes the directors' files, by commands on their machines.
func (r *rig) makeCluster(examples, records string) {
	r.Helper()
	for _, on := range r.Directors {
		text, err := os.ReadFile(filepath.Join(examples, on.Title+".yaml"))
		r.must("read the example", err)
		dir := filepath.Join(r.dir, on.Title)
		d := r.director(daemon.Options{On: on, Records: records, NodeFile: strings.NewReplacer(
			"/etc/tunneldirector", dir, "/var/lib/tunneldirector", filepath.Join(dir, "data")).Replace(string(text))})
		args := []string{"--dir", filepath.Join(dir, "cluster"), "--listen", on.Mgmt.Addrs[0].String(), "--heartbeat", on.Mgmt.Addrs[0].String(), "--heartbeat", on.RS.Addrs[0].String()}
		if on == r.Director {
			for _, o := range r.Directors[1:] {
				args = append(args, "--join", o.Mgmt.Addrs[0].String())
			}
			r.section(d, append([]string{"cluster", "init", "--cluster", "example", "--name", on.Title}, args...)...)
			continue
		}
		invitation := filepath.Join(dir, "invitation")
		_, err = r.d[0].Command("cluster", "invite", on.Title, "--config", r.d[0].Config(), "--rank", on.Title[1:], "--out", invitation)
		r.must("invite", err)
		r.section(d, append(append([]string{"cluster", "join"}, args...), invitation)...)
	}
	var err error
	r.authority, err = daemon.OpenAuthority(filepath.Join(r.dir, "d1", "cluster", "authority"), r.dir)
	r.must("read the authority", err)
}

// section makes a director a member, and demands that the section that is printed is the example's.
func (r *rig) section(d *daemon.Daemon, args ...string) {
	r.Helper()
	out, err := d.Command(args...)
	r.must("make a member", err)
	want, err := config.Read(d.Config())
	r.must("read the example", err)
	before, _, _ := strings.Cut(mustRead(r, d.Config()), "\ncluster:")
	got, err := config.Parse([]byte(before + "\n" + out))
	r.must("read the section", err)
	if diff := cmp.Diff(want.Cluster, got.Cluster, cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
		r.Errorf("the example of %s and what director %s %s prints differ (-example +printed):\n%s", d.On().Title, args[0], args[1], diff)
	}
}

func mustRead(r *rig, path string) string {
	r.Helper()
	b, err := os.ReadFile(path)
	r.must("read", err)
	return string(b)
}

// works is what every cluster is to do.
func (r *rig) works() {
	r.Helper()
	f := r.flow(r.Sites...)
	r.rest(pause * 25)
	f.end("nothing happens").lossless(r)
	r.settle()
	r.tables(r.d...)
	for _, d := range r.d {
		r.until(30*time.Second, "be well", func() error {
			for _, args := range [][]string{{"cluster", "status", "--check"}, {"cluster", "members"}, {"status", "--check"}} {
				if out, err := d.Command(args...); err != nil {
					return fmt.Errorf("%s: director %v: %w\n%s", d.On().Title, args, err, out)
				}
			}
			return r.assigns(d, "d1")
		})
	}
}
