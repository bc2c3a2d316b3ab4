package daemon

import (
	"fmt"
	"path/filepath"
	"strings"

	"tunneldirector/cluster/ca"
	"tunneldirector/cluster/gossip"
	"tunneldirector/integration/lab"
)

// A Membership says how a director is one of several.
type Membership struct {
	Keyring string // "": the authority's, which is made
	Rank    int    // 0: the number in the director's title
	Side    string // tunnel or subnet; default both
	More    string // of the section, YAML lines indented by 2
}

// Member is what makes one of a lab's directors one of several that hear agents: more of its node file. Heartbeats go over the
// directors' own network and over the real servers'.
func (a *Authority) Member(l *lab.Lab, d *lab.Director, m Membership) (string, error) {
	agents, err := a.Settings(l, d.Title)
	if err != nil {
		return "", err
	}
	tls, err := a.issue(ca.RoleDirector, d.Title)
	if err != nil {
		return "", err
	}
	if m.Keyring == "" {
		if m.Keyring, err = a.keyring(); err != nil {
			return "", err
		}
	}
	if m.Side == "" {
		m.Side = "both"
	}
	var join []string
	for i, o := range l.Directors {
		if o == d && m.Rank == 0 {
			m.Rank = i + 1
		}
		join = append(join, fmt.Sprintf("%s:7463", o.Mgmt.Addrs[0]))
	}
	return agents + fmt.Sprintf(`cluster:
  name: %s
  rank: %d
  role: %s
  listen: %s:7462
  heartbeat: ["%[4]s:7464", "%s:7464"]
  join: [%s]
  keyring: %s
  tls: %s
%s
`, a.ca.Cluster(), m.Rank, m.Side, d.Mgmt.Addrs[0], d.RS.Addrs[0], strings.Join(join, ", "), m.Keyring, tls, m.More), nil
}

// keyring is the one of all members.
func (a *Authority) keyring() (string, error) {
	path := filepath.Join(a.dir, "keyring")
	if _, err := gossip.OpenKeyring(path); err == nil {
		return path, nil
	}
	_, err := gossip.CreateKeyring(path)
	return path, err
}
