package doctor

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"tunneldirector/director/api"
)

// window is how long counters are watched, to tell what goes on from what was.
const window = time.Second

// An exam is one look at a Patient.
type exam struct {
	*Patient
	before, after sample
	now           time.Time
	check         string // the one that runs
	report        api.DoctorReport
}

// A check finds things, by exam.find. Its error is why it could not look.
type check struct {
	name string
	run  func(*exam, context.Context) error
}

// checks are all, in the order of what an operator asks first.
var checks = []check{
	{"director", (*exam).director},
	{"drills", (*exam).drills},
	{"data plane", (*exam).dataPlane},
	{"kernel against table", (*exam).kernel},
	{"drops", (*exam).drops},
	{"real servers", (*exam).realServers},
	{"data path", (*exam).dataPath},
	{"neighbours", (*exam).neighbours},
	{"path sizes", (*exam).sizes},
	{"agents", (*exam).agents},
	{"tunnels", (*exam).tunnels},
	{"directors", (*exam).directors},
	{"addresses", (*exam).addresses},
	{"kernel settings", (*exam).settings},
	{"clock", (*exam).clock},
	{"disk", (*exam).disk},
	{"processors", (*exam).processors},
	{"certificates", (*exam).certificates},
	{"versions", (*exam).versions},
}

// Examine looks at a Patient. It takes some seconds; the error is that of the context.
func Examine(ctx context.Context, p *Patient) (api.DoctorReport, error) {
	e := &exam{Patient: p, report: api.DoctorReport{Director: p.Name, Time: time.Now()}}
	e.before = e.sample(ctx)
	select {
	case <-time.After(window):
	case <-ctx.Done():
		return e.report, context.Cause(ctx)
	}
	e.after = e.sample(ctx)
	e.now = time.Now()
	for _, c := range checks {
		if ctx.Err() != nil {
			return e.report, context.Cause(ctx)
		}
		e.check = c.name
		if err := c.run(e, ctx); err != nil {
			e.unchecked("%v", err)
			continue
		}
		e.report.Checked = append(e.report.Checked, c.name)
	}
	order := []string{api.Breaks, api.Risks, api.Notes}
	slices.SortStableFunc(e.report.Findings, func(a, b api.Finding) int {
		return cmp.Compare(slices.Index(order, a.Severity), slices.Index(order, b.Severity))
	})
	e.report.Seconds = time.Since(e.report.Time).Seconds()
	return e.report, nil
}

// find notes something that is wrong. since may be zero.
func (e *exam) find(severity, object string, since time.Time, what, causes, mend string) {
	f := api.Finding{Check: e.check, Object: object, What: what, Causes: causes, Mend: mend, Severity: severity}
	if !since.IsZero() {
		f.Since = &since
	}
	e.report.Findings = append(e.report.Findings, f)
}

// unchecked notes that something could not be looked at.
func (e *exam) unchecked(format string, args ...any) {
	e.report.Unchecked = append(e.report.Unchecked, api.Unchecked{Check: e.check, Why: fmt.Sprintf(format, args...)})
}

// status is the director at a glance, as of now.
func (e *exam) status() (*api.Status, error) { return &e.after.status, e.after.err }
