package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"tunneldirector/director/agent"
	"tunneldirector/director/api"
	"tunneldirector/director/drill"
)

// A faultAsk is what one director asks of another about failures that are made on purpose.
type faultAsk struct {
	By   string            `json:"by,omitempty"`
	Make *api.FaultRequest `json:"make,omitempty"`
	Undo string            `json:"undo,omitempty"` // id
	At   string            `json:"at,omitempty"`   // with Undo: a real server whose agent is to undo it, though nobody knows of it
	List bool              `json:"list,omitempty"`
}

type faultReply struct {
	In      api.FaultInPlace   `json:"in,omitzero"`
	Undone  bool               `json:"undone,omitempty"`
	List    []api.FaultInPlace `json:"list,omitempty"`
	Problem *api.Problem       `json:"problem,omitempty"`
	NoAgent bool               `json:"no_agent,omitempty"` // the real server's agent is not heard here
}

// makeWithin is how long another director may take to make a failure.
const makeWithin = 5 * time.Second

// errNoAgent is a real server's whose agent another director does not hear.
var errNoAgent = errors.New("its agent is not heard there")

// ask asks another director.
func (f *faults) ask(ctx context.Context, name string, q *faultAsk) (faultReply, error) {
	b, err := json.Marshal(nodeQuestion{Fault: q})
	if err != nil {
		return faultReply{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, makeWithin)
	defer cancel()
	reply, err := f.j.replica.Ask(ctx, name, slices.Concat([]byte{askNode}, b))
	var a nodeAnswer
	if err == nil {
		err = json.Unmarshal(reply, &a)
	}
	switch {
	case err != nil:
		return faultReply{}, fmt.Errorf("ask director %s: %w", name, err)
	case a.Fault == nil:
		return faultReply{}, fmt.Errorf("director %s is of an older version that makes no failures", name)
	case a.Fault.NoAgent:
		return faultReply{}, errNoAgent
	case a.Fault.Problem != nil:
		return faultReply{}, a.Fault.Problem
	}
	return *a.Fault, nil
}

// answer answers another director. Only what belongs here is done here: nothing is passed on twice.
func (f *faults) answer(ctx context.Context, q *faultAsk) *faultReply {
	var out faultReply
	var err error
	switch {
	case q.Make != nil:
		out.In, out.NoAgent, err = f.asked(ctx, q)
	case q.At != "":
		if f.hears(q.At) {
			err = f.d.OrderFault(ctx, q.At, agent.FaultOrder{ID: q.Undo, Undo: true})
			out.Undone = err == nil
		}
	case q.Undo != "":
		out.Undone, err = f.undoHere(ctx, q.By, q.Undo)
	case q.List:
		out.List = f.InPlace()
	}
	if err != nil {
		out.Problem = api.AsProblem(err)
		out.Problem.Detail = strings.TrimSpace("director " + f.name + ": " + out.Problem.Detail)
	}
	return &out
}

// asked makes what another director asks for, unless it is in place.
func (f *faults) asked(ctx context.Context, q *faultAsk) (in api.FaultInPlace, noAgent bool, err error) {
	if in, there := f.find(q.Make.ID); there {
		return in, false, nil
	}
	switch kind := drill.Kind(q.Make.Kind); {
	case kind.Befalls() == befallsDirector && q.Make.Target != f.name:
		return in, false, fmt.Errorf("%s is another director", q.Make.Target)
	case kind.Befalls() == befallsRealServer && !f.hears(q.Make.Target):
		return in, true, nil
	}
	in, err = f.here(ctx, q.By, *q.Make)
	return in, false, err
}

// AllInPlace are those of every live director.
func (f *faults) AllInPlace(ctx context.Context) (api.FaultList, error) {
	return f.all(ctx, explainWithin), nil
}

func (f *faults) all(ctx context.Context, within time.Duration) api.FaultList {
	out := api.FaultList{Faults: f.InPlace()}
	if f.j == nil {
		return out
	}
	o := f.j.askEvery(ctx, nodeQuestion{Fault: &faultAsk{List: true}}, within)
	out.Silent = o.silent
	for _, a := range o.answers {
		if a.Fault != nil {
			out.Faults = append(out.Faults, a.Fault.List...)
		}
	}
	slices.SortStableFunc(out.Faults, func(a, b api.FaultInPlace) int { return a.At.Compare(b.At) })
	return out
}
