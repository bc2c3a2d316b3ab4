package api

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
)

func (s *Server) registerCluster() {
	register(s, op{id: "cluster", method: http.MethodGet, path: "/v1/cluster", needs: needsRead,
		summary: "The directors of the cluster, how each stands, and who owns which address and why"}, s.cluster)
	register(s, op{id: "leave-cluster", method: http.MethodPost, path: "/v1/cluster/leave", needs: needsOperator,
		summary: "Say to the others that this director goes, and give its addresses up; stop the daemon afterwards"}, s.leaveCluster)
	register(s, op{id: "forget-director", method: http.MethodPost, path: "/v1/cluster/forget/{name}", needs: needsOperator,
		summary: "Forget a director that is dead and will not come back"}, s.forgetDirector)
	register(s, op{id: "keyring", method: http.MethodGet, path: "/v1/cluster/keyring", needs: needsOperator,
		summary: "The keys of gossip and heartbeats as fingerprints, and which directors have them"}, s.keyring)
	register(s, op{id: "change-keyring", method: http.MethodPost, path: "/v1/cluster/keyring", needs: needsOperator, body: KeyringRequest{},
		summary: "Add, use or remove a key on this director and, through it, on all others that are alive"}, s.changeKeyring)
}

type clusterOutput struct{ Body ClusterStatus }

// clustered is the director as one of several.
func (s *Server) clustered() (Cluster, error) {
	c, ok := s.d.(Cluster)
	if !ok {
		return nil, clusterProblem(ErrAlone)
	}
	return c, nil
}

func clusterProblem(err error) *Problem {
	var p *Problem
	switch {
	case errors.As(err, &p):
		return p
	case errors.Is(err, ErrAlone):
		return problem(http.StatusConflict, "alone", ErrAlone.Error())
	case errors.Is(err, ErrNoMember), errors.Is(err, ErrNoKey):
		return problem(http.StatusNotFound, kindNotFound, err.Error())
	}
	return asProblem(err)
}

func (s *Server) cluster(ctx context.Context, _ *struct{}) (*clusterOutput, error) {
	c, err := s.clustered()
	if err != nil {
		return nil, err
	}
	st, err := c.Members(ctx)
	if err != nil {
		return nil, clusterProblem(err)
	}
	st.fill()
	return &clusterOutput{st}, nil
}

// Done answers what has nothing else to say.
type Done struct {
	Done    bool `json:"done"`
	Already bool `json:"already,omitempty" doc:"it was so before"`
}

type doneOutput struct{ Body Done }

func (s *Server) leaveCluster(ctx context.Context, _ *struct{}) (*doneOutput, error) {
	c, err := s.clustered()
	if err != nil {
		return nil, err
	}
	s.o.Log.Info("leave the cluster", "token", callerOf(ctx).name)
	err = c.Leave(ctx)
	if err != nil && !errors.Is(err, ErrLeft) {
		return nil, clusterProblem(err)
	}
	return &doneOutput{Done{Done: true, Already: err != nil}}, nil
}

func (s *Server) forgetDirector(ctx context.Context, in *namePath) (*doneOutput, error) {
	c, err := s.clustered()
	if err != nil {
		return nil, err
	}
	st, err := c.Members(ctx)
	if err != nil {
		return nil, clusterProblem(err)
	}
	i := slices.IndexFunc(st.Members, func(m MemberStatus) bool { return m.Name == in.Name })
	if i >= 0 && st.Members[i].State != MemberDead && st.Members[i].State != MemberLeft {
		return nil, problem(http.StatusConflict, kindConflict, "director "+clip(in.Name)+" is "+st.Members[i].State+": only who is dead is forgotten; stop it first, or have it leave")
	}
	s.o.Log.Info("forget a director", "token", callerOf(ctx).name, "director", in.Name)
	if err := c.Forget(ctx, in.Name); err != nil {
		return nil, clusterProblem(err)
	}
	return &doneOutput{Done{Done: true}}, nil
}

// A KeyList is the keys.
type KeyList struct {
	Keys []KeyInfo `json:"keys"`
}

type keysOutput struct{ Body KeyList }

func (s *Server) keyring(ctx context.Context, _ *struct{}) (*keysOutput, error) {
	c, err := s.clustered()
	if err != nil {
		return nil, err
	}
	list, err := c.Keyring(ctx)
	if err != nil {
		return nil, clusterProblem(err)
	}
	for i := range list {
		fillList(&list[i].On)
		fillList(&list[i].PrimaryOn)
		fillList(&list[i].Missing)
	}
	fillList(&list)
	return &keysOutput{KeyList{list}}, nil
}

// KeyringChanged answers a change of the keyring.
type KeyringChanged struct {
	Fingerprint string `json:"fingerprint" doc:"of the key that was added, used or removed"`
}

type keyringChangedOutput struct{ Body KeyringChanged }

var fingerprintRE = regexp.MustCompile(`^[0-9a-f]{12}$`)

func (s *Server) changeKeyring(ctx context.Context, _ *struct{}) (*keyringChangedOutput, error) {
	var w KeyringRequest
	if err := readObject(ctx, &w); err != nil {
		return nil, err
	}
	c, err := s.clustered()
	if err != nil {
		return nil, err
	}
	change, p := w.change()
	if p != nil {
		return nil, p
	}
	s.o.Log.Info("change the keyring", "token", callerOf(ctx).name, "do", change.Do, "key", change.Fingerprint)
	if err := c.KeyringChange(ctx, change); err != nil {
		p := clusterProblem(err)
		if p.Status >= http.StatusInternalServerError { // some directors have done it
			p.Detail = fmt.Sprintf("%s key %s: not done on all directors, director cluster keyring list shows where it is: %s", change.Do, change.Fingerprint, err)
		}
		return nil, p
	}
	return &keyringChangedOutput{KeyringChanged{change.Fingerprint}}, nil
}

// change checks a request, and makes the key that it lacks. What is wrong with a key is not repeated.
func (w KeyringRequest) change() (KeyringChange, *Problem) {
	c := KeyringChange{Do: w.Do, Fingerprint: w.Fingerprint, Force: w.Force}
	switch w.Do {
	case KeyAdd:
		key, err := base64.StdEncoding.DecodeString(w.Key)
		if w.Key == "" {
			key = make([]byte, 32)
			_, _ = rand.Read(key) // never fails
		}
		if n := len(key); err != nil || n != 16 && n != 24 && n != 32 {
			return c, invalid("key", "", "is no key", "16, 24 or 32 bytes in base64, or leave it out")
		}
		c.Key, c.Fingerprint = key, KeyFingerprint(key)
		if w.Fingerprint != "" && w.Fingerprint != c.Fingerprint {
			return c, invalid("fingerprint", w.Fingerprint, "is not the key's", "leave it out")
		}
	case KeyUse, KeyRemove:
		if w.Key != "" {
			return c, invalid("key", "", "goes with add alone", "name the key by its fingerprint")
		}
		if !fingerprintRE.MatchString(w.Fingerprint) {
			return c, invalid("fingerprint", w.Fingerprint, "is not a fingerprint", "one of those that `director cluster keyring list` shows")
		}
	default:
		return c, invalid("do", w.Do, "is none of the changes", "one of add, use, remove")
	}
	return c, nil
}
