package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"tunneldirector/director/api"
	"tunneldirector/integration/daemon"
	"tunneldirector/integration/lab"
	"tunneldirector/integration/programs"
	"tunneldirector/integration/spaces"
)

// patience is how long a test may take.
const patience = 10 * time.Minute

// TestMain builds the programs under test.
func TestMain(m *testing.M) { programs.Main(m, programs.Options{}) }

// A rig is a lab with two directors at work, WireGuard, and an agent on each real server.
type rig struct {
	*testing.T
	*lab.Lab
	d         []*daemon.Daemon
	agents    map[*lab.RealServer]*daemon.Agent
	authority *daemon.Authority
	plane     string
	dir       string
	ctx       context.Context
}

func newRig(t *testing.T, plane string) *rig {
	t.Helper()
	spaces.Root(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	r := &rig{T: t, plane: plane, dir: t.TempDir(), ctx: ctx, agents: map[*lab.RealServer]*daemon.Agent{}}
	var err error
	r.authority, err = daemon.NewAuthority(r.dir)
	r.must("make an authority", err)
	r.Lab, err = lab.New(context.WithoutCancel(ctx), lab.Options{Directors: 2, RealServers: 2, Sites: 4, SiteNamespaces: 1, Prepare: r.prepare,
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	r.must("build the lab", err)
	t.Cleanup(func() {
		if err := r.Lab.Close(); err != nil {
			t.Errorf("close the lab: %v", err)
		}
	})
	for _, d := range r.Directors {
		r.director(d)
	}
	for _, d := range r.d {
		r.must("wait until "+d.On().Title+" is ready", d.Ready(ctx))
	}
	r.must("apply", r.d[0].Apply(ctx))
	for _, rs := range r.RealServers {
		r.must("start an agent", r.agents[rs].Start())
	}
	r.must("hear the agents", r.d[0].Heard(ctx, 0, r.RealServers...))
	r.must("push", r.d[0].Push(ctx, r.Sites...))
	r.must("establish", r.Establish(ctx))
	for _, d := range r.d {
		r.must("hear of tunnels", d.Heard(ctx, len(r.Sites), r.RealServers...))
	}
	return r
}

func (r *rig) prepare(l *lab.Lab, rs *lab.RealServer) error {
	a, err := daemon.NewAgent(l, rs, r.authority, daemon.AgentOptions{Binary: programs.RealServer(), Dir: r.dir, Log: r.Output()})
	if err != nil {
		return err
	}
	r.agents[rs] = a
	_, err = a.Command("apply", "--config", a.Config())
	return err
}

// director starts one. The network of the real servers has the role subnet, too: what a real server sends back comes in by it, as
// where all is one network.
func (r *rig) director(on *lab.Director) {
	r.Helper()
	settings, err := r.authority.Member(r.Lab, on, daemon.Membership{})
	r.must("certify a director", err)
	dir := filepath.Join(r.dir, on.Title)
	r.must("make a directory", os.MkdirAll(dir, 0o755))
	d, err := daemon.New(r.Lab, daemon.Options{On: on, Binary: programs.Director(), Dir: dir, Log: r.Output(), NodeFile: fmt.Sprintf(`name: %s
data_dir: %s
plane: %s
interfaces:
  - {name: %s, roles: [realservers, subnet]}
  - {name: %s, roles: [tunnel]}
  - {name: %s, roles: [subnet]}
api:
  socket: {path: /run/tunneldirector/api.sock}
%s`, on.Title, filepath.Join(dir, "data"), r.plane, on.RS.Name, on.Sites.Name, on.Inner.Name, settings)})
	r.must("configure a director", err)
	r.must("start a director", d.Launch())
	r.d = append(r.d, d)
}

func (r *rig) must(act string, err error) {
	r.Helper()
	if err != nil {
		r.Fatalf("%s: %v", act, err)
	}
}

// until asks again until the answer is right: what is short of processor time answers late.
func (r *rig) until(limit time.Duration, what string, ask func() error) {
	r.Helper()
	for end := time.Now().Add(limit); ; time.Sleep(100 * time.Millisecond) {
		err := ask()
		if err == nil {
			return
		}
		if time.Now().After(end) || r.ctx.Err() != nil {
			r.Fatalf("%s: %v", what, err)
		}
	}
}

// doctor asks by the command line; a finding is no fault of the command.
func (r *rig) doctor() (list []api.Finding, out string, err error) {
	r.Helper()
	out, err = r.d[0].Command("doctor", "--all", "--json")
	var reports api.DoctorReports
	if e := json.Unmarshal([]byte(out), &reports); e != nil {
		return nil, out, errors.Join(err, e)
	}
	if len(reports.Reports) != len(r.d) {
		return nil, out, fmt.Errorf("%d directors answer: %s", len(reports.Reports), out)
	}
	for _, x := range reports.Reports {
		list = append(list, x.Findings...)
		if (x.Wrong() > 0) && err == nil {
			r.Errorf("director %s finds what is wrong, and the exit code is 0: %s", x.Director, out)
		}
	}
	return list, out, nil
}

// finds waits until the doctor finds something: of a check, about an object, in these words.
func (r *rig) finds(check, object, words string) (found api.Finding) {
	r.Helper()
	r.until(soon, check+" of "+object, func() error {
		list, out, err := r.doctor()
		if err != nil {
			return err
		}
		i := slices.IndexFunc(list, func(f api.Finding) bool {
			return f.Check == check && f.Object == object && strings.Contains(f.What, words) && f.Severity == api.Breaks
		})
		if i < 0 {
			return fmt.Errorf("not found: %q in\n%s", words, out)
		}
		found = list[i]
		return nil
	})
	r.Logf("%s: %s\ncauses: %s\nmend: %s", found.Severity, found.What, found.Causes, found.Mend)
	return found
}

// traces explains a packet at every director, in one command.
func (r *rig) traces(args ...string) (all api.Explanations, words string, err error) {
	out, err := r.d[0].Command(append([]string{"trace", "--all", "--json"}, args...)...)
	if err == nil {
		err = json.Unmarshal([]byte(out), &all)
	}
	if err != nil {
		return all, "", err
	}
	if len(all.Explanations) != len(r.d) {
		return all, "", fmt.Errorf("%d directors explain: %s", len(all.Explanations), out)
	}
	for _, x := range all.Explanations {
		words += x.Director + ": " + strings.Join(x.Explanation.Words, "\n"+x.Director+": ") + "\n"
	}
	return all, words, nil
}

// explains waits until a trace has some words, and is right in what else is asked of it.
func (r *rig) explains(words []string, right func(api.Explanations) error, args ...string) {
	r.Helper()
	r.until(soon, fmt.Sprintf("trace %v", args), func() error {
		all, said, err := r.traces(args...)
		if err != nil {
			return err
		}
		errs := []error{right(all)}
		for _, w := range words {
			if !strings.Contains(said, w) {
				errs = append(errs, fmt.Errorf("it does not say %q:\n%s", w, said))
			}
		}
		return errors.Join(errs...)
	})
}

// each is what every director has to explain.
func each(right func(api.Explanation) bool) func(api.Explanations) error {
	return func(all api.Explanations) (err error) {
		for _, x := range all.Explanations {
			if !right(x.Explanation) {
				err = errors.Join(err, fmt.Errorf("director %s explains %+v", x.Director, x.Explanation))
			}
		}
		return err
	}
}

// anything is right.
func anything(api.Explanations) error { return nil }

// at is a site whose tunnel is at a real server.
func (r *rig) at(rs *lab.RealServer) *lab.Site {
	r.Helper()
	for _, s := range r.Sites {
		placed, _, err := r.d[0].Placed(r.ctx, s)
		r.must("ask where a tunnel is", err)
		if placed == rs {
			return s
		}
	}
	r.Fatalf("no site is at %s", rs.Name)
	return nil
}

// packet is a site's, as trace is told of it.
func packet(s *lab.Site) []string {
	return []string{"--from", fmt.Sprintf("%s:%d", s.Endpoint, lab.WireGuardPort), "--to", fmt.Sprintf("%s:%d", s.VIP, lab.WireGuardPort), "--proto", "udp"}
}

// inside does something to the network of a machine.
func (r *rig) inside(n *lab.Namespace, what string, f func(link netlink.Link) error, dev string) {
	r.Helper()
	r.must(what, n.Run(func() error {
		link, err := netlink.LinkByName(dev)
		if err != nil {
			return err
		}
		return f(link)
	}))
}
