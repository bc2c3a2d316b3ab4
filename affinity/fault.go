package affinity

import (
	"fmt"
	"strings"
)

// A Fault is one thing wrong with something that was asked for.
type Fault struct {
	Field   string // a path: subnets[0]; "": the object as a whole
	Value   string // as it was given
	Problem string // what is wrong
	Remedy  string // what would be right
}

func (f Fault) Error() string {
	var b strings.Builder
	b.WriteString(f.Field)
	if f.Value != "" {
		if f.Field != "" {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "%q", f.Value)
	}
	if b.Len() > 0 {
		b.WriteString(": ")
	}
	b.WriteString(f.Problem)
	if f.Remedy != "" {
		b.WriteString("; " + f.Remedy)
	}
	return b.String()
}

// A Refusal is the error of a change that was not made. Nothing of it was applied.
type Refusal struct {
	Reason RefusalReason
	Object string // "tunnel site-0042"
	Faults []Fault
}

// A RefusalReason sorts refusals by what the caller should do about them.
type RefusalReason uint8

// The reasons of refusals.
const (
	Invalid    RefusalReason = iota // mend the faults
	Conflict                        // somebody else holds what is wanted
	Stale                           // a newer generation is known
	NotFound                        // no such object
	Forbidden                       // it is another owner's, or protected from this change
	Full                            // no room: a fixed size is reached
	Unwritable                      // the disk takes no writes now
)

func (r *Refusal) Error() string {
	words := make([]string, len(r.Faults))
	for i, f := range r.Faults {
		words[i] = f.Error()
	}
	return r.Object + ": " + strings.Join(words, " | ")
}

// Refuse makes a Refusal with one fault.
func Refuse(reason RefusalReason, object string, f Fault) *Refusal {
	return &Refusal{Reason: reason, Object: object, Faults: []Fault{f}}
}
