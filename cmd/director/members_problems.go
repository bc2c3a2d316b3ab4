package main

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"tunneldirector/director/api"
)

// tooLong is how long tables may differ, and records wait, before a person is told: longer than a start, a large push or a round takes.
const tooLong = 30 * time.Second

// problems is what is wrong between directors, as they stand, in sentences.
func (j *joined) problems(st *api.ClusterStatus) []string {
	var out []string
	if j.left.Load() {
		out = append(out, "this director has left the cluster: stop its daemon; to come back, start it again")
	}
	if st.Assigner == "" && !j.left.Load() {
		out = append(out, "nobody assigns, since no director is ready: new tunnels are not placed")
	}
	for i := range st.Members {
		out = append(out, troublesOf(&st.Members[i], time.Now())...)
	}
	if p := authorityTrouble(j.cfg.Cluster.Authority); p != "" {
		out = append(out, p)
	}
	out = slices.Concat(out, j.beater.View().Faults(), j.gossip.Problems(), j.beater.Problems(), j.replica.Problems())
	if a := j.own.Alarm(); a != "" {
		out = append(out, a)
	}
	return out
}

// troublesOf is what is wrong with another director. The sentences have no counts in them, which change all the time.
func troublesOf(m *api.MemberStatus, now time.Time) (out []string) {
	switch {
	case m.Self || m.State == api.MemberLeft:
		return nil
	case m.State == api.MemberDead:
		return []string{fmt.Sprintf("director %s is dead: start it, or, if it is scrapped, director cluster forget %s", m.Name, m.Name)}
	}
	if m.Digest.Known && !m.Digest.Equal && m.Digest.Since != nil && now.Sub(*m.Digest.Since) > tooLong {
		out = append(out, fmt.Sprintf("director %s has had another table than this one for more than %v", m.Name, tooLong))
	}
	if m.Lag.Seconds > tooLong.Seconds() {
		out = append(out, fmt.Sprintf("director %s has not acknowledged for more than %v what was written here", m.Name, tooLong))
	}
	return out
}

// authorityTrouble says why certificates cannot be issued from the directory that is named; "": they can, or none is named.
func authorityTrouble(dir string) string {
	if dir == "" {
		return ""
	}
	info, err := os.Stat(dir)
	switch {
	case err != nil:
		return fmt.Sprintf("cluster.authority: no certificate can be renewed here: %v", err)
	case !info.IsDir():
		return fmt.Sprintf("cluster.authority: no certificate can be renewed here: %s is no directory", dir)
	}
	return ""
}

// alarms are the problems for who looks at the director alone.
func (j *joined) alarms() []string {
	if j == nil {
		return nil
	}
	st := j.standing()
	var out []string
	for _, p := range j.problems(&st) {
		out = append(out, "cluster: "+uncounted(p))
	}
	return out
}

// uncounted leaves out how often something was seen, so that an alarm has the same words while it lasts; when it was seen last stays.
func uncounted(problem string) string {
	if before, _, found := strings.Cut(problem, " times since "); found {
		if i := strings.LastIndex(before, ", "); i >= 0 {
			return before[:i] + ")"
		}
	}
	return problem
}

// strangers are the directors that addresses prefer, and that nobody knows.
func (s several) strangers() []string {
	known := s.j.memory.all()
	var out []string
	look := func(of string, prefer map[netip.Addr][]string) {
		for a, names := range prefer {
			for _, name := range names {
				if _, ok := known[name]; !ok && name != s.j.cfg.Name {
					out = append(out, fmt.Sprintf("%s prefers director %s for %s, and no director has that name", of, name, a))
				}
			}
		}
	}
	t := s.Table()
	for _, svc := range t.Services() {
		look("service "+svc.Name, svc.Prefer)
	}
	for _, n := range t.Tenants() {
		look("tenant "+n.Name, n.Prefer)
	}
	slices.Sort(out)
	return out
}
