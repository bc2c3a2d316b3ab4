package api

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// The severities of a Finding.
const (
	Breaks = "breaks" // tunnels do not work
	Risks  = "risks"  // tunnels may fail, or do in part
	Notes  = "notes"  // worth knowing; nothing has to be done
)

// A Finding is something that is wrong with a director, or with what it depends on.
type Finding struct {
	Check    string     `json:"check" doc:"what was looked at"`
	Object   string     `json:"object,omitempty" doc:"real server, director, interface or address that is concerned"`
	What     string     `json:"what" doc:"the fact"`
	Since    *time.Time `json:"since,omitempty" doc:"missing: not known"`
	Causes   string     `json:"causes" doc:"what becomes of packets"`
	Mend     string     `json:"mend" doc:"a command, mostly"`
	Severity string     `json:"severity" enum:"breaks,risks,notes"`
}

// An Unchecked is something that could not be looked at: it may be right, or not.
type Unchecked struct {
	Check string `json:"check"`
	Why   string `json:"why"`
}

// A DoctorReport is what one director finds.
type DoctorReport struct {
	Director  string      `json:"director"`
	Time      time.Time   `json:"time"`
	Seconds   float64     `json:"seconds" doc:"that it took"`
	Checked   []string    `json:"checked" doc:"what was looked at"`
	Unchecked []Unchecked `json:"unchecked" doc:"what could not be looked at"`
	Findings  []Finding   `json:"findings" doc:"the worst first"`
}

// Wrong counts the findings that are more than worth knowing.
func (r *DoctorReport) Wrong() (n int) {
	for _, f := range r.Findings {
		if f.Severity != Notes {
			n++
		}
	}
	return n
}

// A Silent is a director that did not answer.
type Silent struct {
	Director string `json:"director"`
	Why      string `json:"why"`
}

// DoctorReports are those of the director that was asked, and of the others, if they were asked for.
type DoctorReports struct {
	Reports []DoctorReport `json:"reports" doc:"the asked director's first"`
	Silent  []Silent       `json:"silent" doc:"other directors that did not answer"`
}

// A DirectorExplanation is what becomes of a packet at one director.
type DirectorExplanation struct {
	Director    string      `json:"director"`
	Explanation Explanation `json:"explanation"`
}

// Explanations are those of all directors.
type Explanations struct {
	Explanations []DirectorExplanation `json:"explanations" doc:"the asked director's first"`
	Silent       []Silent              `json:"silent" doc:"other directors that did not answer"`
	Agree        bool                  `json:"agree" doc:"all that answered send it to the same real server, or none does"`
}

// An Examiner answers what takes more than one director's table and plane. It is told to a Server once.
type Examiner interface {
	// Examine looks for what is wrong; with all, the other live directors do so too.
	Examine(ctx context.Context, all bool) (DoctorReports, error)
	// ExplainAll tells what each live director does with a packet.
	ExplainAll(ctx context.Context, q Question) (Explanations, error)
	// AllEvents are those that each live director has on disk of what happened since a time.
	AllEvents(ctx context.Context, since time.Time) (AllEvents, error)
}

func (s *Server) registerDoctor() {
	if s.o.Examiner == nil {
		return
	}
	register(s, op{id: "doctor", method: http.MethodGet, path: "/v1/doctor", needs: needsRead,
		summary: "What is wrong with this director and with what it depends on, what that causes and what mends it. It takes some seconds, and disturbs nothing"}, s.doctor)
	register(s, op{id: "lookup-all", method: http.MethodGet, path: "/v1/lookup/all", needs: needsRead,
		summary: "What happens to a packet at each live director"}, s.lookupAll)
	register(s, op{id: "all-events", method: http.MethodGet, path: "/v1/events/all", needs: needsRead,
		summary: "What happened since a time, from the disk of every live director"}, s.allEvents)
}

type doctorInput struct {
	All bool `query:"all" doc:"of every live director"`
}

type doctorOutput struct{ Body DoctorReports }

func (s *Server) doctor(ctx context.Context, in *doctorInput) (*doctorOutput, error) {
	select {
	case s.exams <- struct{}{}:
		defer func() { <-s.exams }()
	default:
		p := problem(http.StatusConflict, kindConflict, "somebody else asks for the same now; one at a time")
		p.RetryAfter = 5
		return nil, p
	}
	r, err := s.o.Examiner.Examine(ctx, in.All)
	if err != nil {
		return nil, asProblem(err)
	}
	fillList(&r.Reports)
	fillList(&r.Silent)
	for i := range r.Reports {
		fillList(&r.Reports[i].Checked)
		fillList(&r.Reports[i].Unchecked)
		fillList(&r.Reports[i].Findings)
	}
	return &doctorOutput{r}, nil
}

type lookupAllOutput struct{ Body Explanations }

func (s *Server) lookupAll(ctx context.Context, in *lookupInput) (*lookupAllOutput, error) {
	if p := in.check(); p != nil {
		return nil, p
	}
	e, err := s.o.Examiner.ExplainAll(ctx, in.Question)
	if err != nil {
		return nil, asProblem(err)
	}
	fillList(&e.Explanations)
	fillList(&e.Silent)
	for i := range e.Explanations {
		e.Explanations[i].Explanation.fill()
	}
	return &lookupAllOutput{e}, nil
}

// Doctor asks a director, or all, what is wrong.
func (c *Client) Doctor(ctx context.Context, all bool) (DoctorReports, error) {
	q := url.Values{}
	if all {
		q.Set("all", "true")
	}
	return call[DoctorReports](ctx, c, http.MethodGet, "/v1/doctor", q, nil)
}

// LookupAll asks all directors what happens to a packet.
func (c *Client) LookupAll(ctx context.Context, q Question) (Explanations, error) {
	return call[Explanations](ctx, c, http.MethodGet, "/v1/lookup/all", q.query(), nil)
}
