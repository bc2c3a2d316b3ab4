package ca

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// A Role is what somebody may be in a cluster.
type Role string

// The roles. An authority certifies, and speaks with nobody.
const (
	RoleDirector  Role = "director"
	RoleAgent     Role = "agent"
	RoleAuthority Role = "authority"
)

// An Identity is who somebody is. An agent's name is its host's, as real servers' records have it.
type Identity struct {
	Cluster string
	Role    Role
	Name    string
}

const scheme = "tunneldirector"

var (
	// A cluster stands where a URI has its host.
	clusterRE = regexp.MustCompile(`^[A-Za-z0-9]+([.-][A-Za-z0-9]+)*$`)
	// As of hosts in real servers' records.
	nameRE = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$`)
)

const maxCluster = 63

func (id Identity) String() string {
	return fmt.Sprintf("%s %s of cluster %s", id.Role, id.Name, id.Cluster)
}

// Validate tells what is wrong with an identity.
func (id Identity) Validate() error {
	switch {
	case len(id.Cluster) > maxCluster || !clusterRE.MatchString(id.Cluster):
		return fmt.Errorf("%q is not the name of a cluster: 1 to %d letters and digits, with single . or - between them", id.Cluster, maxCluster)
	case id.Role != RoleDirector && id.Role != RoleAgent && id.Role != RoleAuthority:
		return fmt.Errorf("%q is not a role: %s or %s", id.Role, RoleDirector, RoleAgent)
	case !nameRE.MatchString(id.Name):
		return fmt.Errorf("%q is not a name: 1 to 128 letters, digits and . _ : - that start with a letter or a digit", id.Name)
	}
	return nil
}

func (id Identity) uri() *url.URL {
	return &url.URL{Scheme: scheme, Host: id.Cluster, Path: "/" + string(id.Role) + "/" + id.Name}
}

// identityOf reads a certificate's identity: its only URI, written as uri writes it.
func identityOf(c *x509.Certificate) (Identity, error) {
	if len(c.URIs) != 1 || c.URIs[0].Scheme != scheme {
		return Identity{}, errors.New("the certificate is no " + scheme + "'s: it lacks the one URI that says whose it is")
	}
	u := c.URIs[0]
	role, name, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	id := Identity{u.Host, Role(role), name}
	if err := id.Validate(); err != nil {
		return Identity{}, fmt.Errorf("whose the certificate is: %w", err)
	}
	if u.String() != id.uri().String() {
		return Identity{}, fmt.Errorf("whose the certificate is: %q has more than %q", u, id.uri())
	}
	return id, nil
}
