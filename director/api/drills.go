package api

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// A FaultRequest asks for a failure that is made on purpose. It is undone when its time is over, whatever happens meanwhile.
type FaultRequest struct {
	ID     string `json:"id" doc:"of this failure: 1 to 64 letters, digits and -; those of one drill have all but what follows the last - in common"`
	Kind   string `json:"kind" enum:"terminator-crash,terminator-hang,host-loss,link-cut,drain,director-crash,director-hang,director-restart,partition,vip-move,disk-full,nms-outage,nms-empty"`
	Target string `json:"target,omitempty" doc:"the real server or director that it befalls; of nms-empty, the owner whose tunnels are left out: by default who has the most"`
	ForMS  int64  `json:"for_ms" minimum:"100" maximum:"600000" doc:"after how many milliseconds it is undone at the latest"`
}

// FaultKinds are the kinds of a FaultRequest.
func FaultKinds() []string {
	return []string{"terminator-crash", "terminator-hang", "host-loss", "link-cut", "drain", "director-crash", "director-hang", "director-restart", "partition",
		"vip-move", "disk-full", "nms-outage", nmsEmpty}
}

// nmsEmpty is the one kind that changes nothing, whatever comes of it.
const nmsEmpty = "nms-empty"

// A FaultInPlace is a failure that is made on purpose now.
type FaultInPlace struct {
	ID         string    `json:"id"`
	Kind       string    `json:"kind"`
	Target     string    `json:"target,omitempty"`
	Director   string    `json:"director" doc:"who carries it out, or has the real server's agent do so"`
	By         string    `json:"by" doc:"who asked"`
	At         time.Time `json:"at" doc:"since when"`
	Until      time.Time `json:"until" doc:"when it is undone at the latest"`
	BeginsInMS int64     `json:"begins_in_ms,omitempty" doc:"it begins so long after this answer, which it would keep from coming"`
	Error      string    `json:"error,omitempty" doc:"why it could not be undone; that is tried again"`
}

// A FaultList is what is in place.
type FaultList struct {
	Faults []FaultInPlace `json:"faults" doc:"by time"`
	Silent []Silent       `json:"silent" doc:"other directors that did not answer"`
}

// Drills makes failures on purpose and undoes them: this director's, those of other directors and, through agents, of real servers. It is
// told to a Server once. What is refused is a *Problem.
type Drills interface {
	// Inject makes a failure. It is durable where it is carried out before it is made. Asked again with the same id it does nothing.
	Inject(ctx context.Context, by string, r FaultRequest) (FaultInPlace, error)
	// Undo ends one; already: it is not in place. A target ("": not known) helps to find a real server whose director has forgotten it.
	Undo(ctx context.Context, by, id, target string) (already bool, err error)
	// InPlace are those that this director carries out, or has agents carry out.
	InPlace() []FaultInPlace
	// AllInPlace are those of every live director.
	AllInPlace(ctx context.Context) (FaultList, error)
}

func (s *Server) registerDrills() {
	if s.o.Drills == nil {
		return
	}
	register(s, op{id: "list-faults", method: http.MethodGet, path: "/v1/faults", needs: needsRead,
		summary: "The failures that are made on purpose now, at every live director"}, s.listFaults)
	register(s, op{id: "make-fault", method: http.MethodPost, path: "/v1/faults", needs: needsDrill, body: FaultRequest{},
		summary: "Make a failure on purpose. It is undone by itself in time, by whoever carries it out. Refused where drill.allow is not set. nms-empty changes nothing: it tells whether it would"}, s.makeFault)
	register(s, op{id: "undo-fault", method: http.MethodDelete, path: "/v1/faults/{id}", needs: needsDrill,
		summary: "End a failure that was made on purpose; one that is not in place is no error"}, s.undoFault)
}

type faultListOutput struct{ Body FaultList }

func (s *Server) listFaults(ctx context.Context, _ *struct{}) (*faultListOutput, error) {
	l, err := s.o.Drills.AllInPlace(ctx)
	if err != nil {
		return nil, asProblem(err)
	}
	fillList(&l.Faults)
	fillList(&l.Silent)
	return &faultListOutput{l}, nil
}

var faultIDRE = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9-]{0,63}$`)

const faultIDRemedy = "1 to 64 letters, digits and -, of your choice"

// The longest and the shortest time that a failure lasts.
const (
	minFault = 100 * time.Millisecond
	maxFault = 10 * time.Minute
)

// check holds a request to its form.
func (r *FaultRequest) check() *Problem {
	var f faults
	if !faultIDRE.MatchString(r.ID) {
		f.add("id", r.ID, "is no id", faultIDRemedy)
	}
	if !slices.Contains(FaultKinds(), r.Kind) {
		f.add("kind", r.Kind, "is no kind of failure", "one of "+strings.Join(FaultKinds(), ", "))
	}
	if d := time.Duration(r.ForMS) * time.Millisecond; r.ForMS < minFault.Milliseconds() || r.ForMS > maxFault.Milliseconds() {
		f.add("for_ms", d.String(), "is not between "+minFault.String()+" and "+maxFault.String(), "milliseconds; it is undone then by itself")
	}
	return f.problem("the fault")
}

type faultOutput struct{ Body FaultInPlace }

func (s *Server) makeFault(ctx context.Context, _ *struct{}) (*faultOutput, error) {
	var r FaultRequest
	if err := readObject(ctx, &r); err != nil {
		return nil, err
	}
	if p := r.check(); p != nil {
		return nil, p
	}
	by := callerOf(ctx).name
	if r.Kind == nmsEmpty {
		if p := s.mayDrill(); p != nil {
			return nil, p
		}
		return s.tryEmptySet(ctx, by, r)
	}
	in, err := s.o.Drills.Inject(ctx, by, r)
	if err != nil {
		s.o.Log.Warn("a failure is not made on purpose", "token", by, "id", r.ID, "kind", r.Kind, "target", clip(r.Target), "error", err)
		return nil, asProblem(err)
	}
	s.o.Log.Warn("a failure is made on purpose", "token", by, "id", r.ID, "kind", r.Kind, "target", clip(r.Target), "until", in.Until)
	return &faultOutput{in}, nil
}

type undoInput struct {
	ID     string `path:"id" maxLength:"64"`
	Target string `query:"target" maxLength:"128" doc:"what it befell"`
}

func (s *Server) undoFault(ctx context.Context, in *undoInput) (*doneOutput, error) {
	if !faultIDRE.MatchString(in.ID) {
		return nil, invalid("id", in.ID, "is no id", faultIDRemedy)
	}
	already, err := s.o.Drills.Undo(ctx, callerOf(ctx).name, in.ID, in.Target)
	if err != nil {
		return nil, asProblem(err)
	}
	return &doneOutput{Done{Done: true, Already: already}}, nil
}

// A Permit is a Drills that may not be allowed to make failures, nor to try what takes as long.
type Permit interface {
	// Allowed is what is in the way; nil: nothing.
	Allowed() *Problem
}

func (s *Server) mayDrill() *Problem {
	if p, ok := s.o.Drills.(Permit); ok {
		return p.Allowed()
	}
	return nil
}

// An Outage is a Drills that can have this director take nothing from the NMS.
type Outage interface {
	// Outage is why no pushes are taken; "": they are.
	Outage() string
}

// outage refuses pushes while a drill says so.
func (s *Server) outage() *Problem {
	o, ok := s.o.Drills.(Outage)
	if !ok || o.Outage() == "" {
		return nil
	}
	p := problem(http.StatusServiceUnavailable, kindUnavailable, "no pushes are taken: "+o.Outage())
	p.RetryAfter = 1
	return p
}

// MakeFault makes a failure on purpose.
func (c *Client) MakeFault(ctx context.Context, r FaultRequest) (FaultInPlace, error) {
	return call[FaultInPlace](ctx, c, http.MethodPost, "/v1/faults", nil, r)
}

// UndoFault ends one, and tells whether it was not in place. Its target may be "".
func (c *Client) UndoFault(ctx context.Context, id, target string) (already bool, err error) {
	q := url.Values{}
	if target != "" {
		q.Set("target", target)
	}
	d, err := call[Done](ctx, c, http.MethodDelete, "/v1/faults/"+url.PathEscape(id), q, nil)
	return d.Already, err
}

// Faults are those in place at every live director.
func (c *Client) Faults(ctx context.Context) (FaultList, error) {
	return call[FaultList](ctx, c, http.MethodGet, "/v1/faults", nil, nil)
}

// RefusedEmpty tells whether an error says that an empty table of the NMS is refused by what protects the tunnels.
func RefusedEmpty(err error) bool {
	var p *Problem
	return errors.As(err, &p) && p.Type == "urn:tunneldirector:problem:"+kindDeletions
}
