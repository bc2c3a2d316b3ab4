package api

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"tunneldirector/affinity"
)

// Tokens finds who a bearer token belongs to. It must not tell by its timing how much of a secret is right.
type Tokens interface {
	Find(secret string) (name, role string, ok bool)
}

// The roles of tokens.
const (
	RoleRead     = "read"     // reads everything
	RoleNMS      = "nms"      // reads everything, pushes its own tunnels
	RoleOperator = "operator" // everything
	RoleDrill    = "drill"    // reads everything, makes failures on purpose and undoes them, and has dropped packets recorded
)

// needs says which roles may call an operation. It is kept in the operation's metadata.
type needs string

const (
	needsNothing  needs = "nothing"
	needsRead     needs = "read"
	needsPush     needs = "push"
	needsOperator needs = "operator"
	needsDrill    needs = "drill"
)

const needsKey = "needs"

var allowed = map[needs][]string{
	needsRead:     {RoleRead, RoleNMS, RoleDrill, RoleOperator},
	needsPush:     {RoleNMS, RoleOperator},
	needsOperator: {RoleOperator},
	needsDrill:    {RoleDrill, RoleOperator},
}

// a caller is who a request comes from.
type caller struct {
	name string
	role string
}

func (c caller) actor() affinity.Actor {
	return affinity.Actor{Name: c.name, Any: c.role == RoleOperator}
}

type callerKey struct{}

func callerOf(ctx context.Context) caller {
	c, _ := ctx.Value(callerKey{}).(caller)
	return c
}

// authorize lets a request through to its operation, or answers it.
func (s *Server) authorize(ctx huma.Context, next func(huma.Context)) {
	need, _ := ctx.Operation().Metadata[needsKey].(needs)
	if need == needsNothing {
		next(ctx)
		return
	}
	r, w := unwrap(ctx)
	who, p := s.identify(r)
	if p == nil && !slices.Contains(allowed[need], who.role) {
		p = problem(http.StatusForbidden, kindForbidden, fmt.Sprintf("token %q has the role %q", who.name, who.role),
			FieldError{Field: "Authorization", Problem: "this needs one of the roles " + strings.Join(allowed[need], ", "), Remedy: "use another token"})
	}
	if p == nil && need == needsPush {
		p = s.outage()
	}
	if p != nil {
		s.o.Log.Warn("request refused", "method", r.Method, "path", r.URL.Path, "remote", r.RemoteAddr, "token", who.name, "status", p.Status)
		refuse(w, r, p)
		return
	}
	next(huma.WithValue(ctx, callerKey{}, who))
}

// identify finds out who asks. A unix socket is guarded by its file mode: who may open it is the operator "local",
// unless a token says otherwise. Loopback is that only if there are no tokens at all.
func (s *Server) identify(r *http.Request) (caller, *Problem) {
	header := r.Header.Get("Authorization")
	local := isUnix(r) || s.o.Tokens == nil && isLoopback(r)
	if header == "" && local {
		return caller{"local", RoleOperator}, nil
	}
	if s.o.Tokens == nil {
		if local {
			return caller{}, problem(http.StatusUnauthorized, kindUnauthorized, "no tokens are configured here",
				FieldError{Field: "Authorization", Problem: "no such token", Remedy: "leave the header out: local callers are operators"})
		}
		return caller{}, problem(http.StatusForbidden, kindForbidden, "without tokens only local callers are served",
			FieldError{Field: "Authorization", Problem: "no tokens are configured here", Remedy: "configure a token file, or use the unix socket"})
	}
	scheme, secret, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "Bearer") || secret == "" {
		return caller{}, problem(http.StatusUnauthorized, kindUnauthorized, "a token is needed",
			FieldError{Field: "Authorization", Problem: "no bearer token", Remedy: "send Authorization: Bearer TOKEN"})
	}
	name, role, ok := s.o.Tokens.Find(strings.TrimSpace(secret))
	if !ok {
		return caller{}, problem(http.StatusUnauthorized, kindUnauthorized, "the token is not known",
			FieldError{Field: "Authorization", Problem: "no such token", Remedy: "look into the director's token file"})
	}
	return caller{name, role}, nil
}

func isUnix(r *http.Request) bool {
	_, ok := r.Context().Value(http.LocalAddrContextKey).(*net.UnixAddr)
	return ok
}

func isLoopback(r *http.Request) bool {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	if !ok || !local.IP.IsLoopback() {
		return false
	}
	remote, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && remote.Addr().Unmap().IsLoopback()
}

// guardBrowser refuses what a web page can make a browser on this machine send: where no token is asked for, a name
// that was rebound to 127.0.0.1, and any page's script.
func (s *Server) guardBrowser(r *http.Request) *Problem {
	if s.o.Tokens != nil || isUnix(r) {
		return nil
	}
	if r.Header.Get("Origin") != "" || crossSite(r) {
		return problem(http.StatusForbidden, kindForbidden, "requests of web pages are not served without tokens",
			FieldError{Field: "Origin", Value: clip(r.Header.Get("Origin")), Problem: "comes from a browser", Remedy: "configure a token file"})
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	a, err := netip.ParseAddr(strings.Trim(host, "[]"))
	if strings.EqualFold(strings.TrimSuffix(host, "."), "localhost") || err == nil && a.Unmap().IsLoopback() {
		return nil
	}
	return problem(http.StatusForbidden, kindForbidden, "without tokens only local names are served",
		FieldError{Field: "Host", Value: clip(r.Host), Problem: "is neither localhost nor a loopback address", Remedy: "use http://127.0.0.1:PORT, or configure a token file"})
}

func crossSite(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "none", "same-origin":
		return false
	}
	return true
}
