package director

import (
	"context"

	"tunneldirector/director/api"
	"tunneldirector/director/plane"
)

// Auditable tells whether the data plane can be compared with the kernel.
func (v view) Auditable() bool {
	_, ok := v.d.o.Plane.(plane.Auditor)
	return ok
}

// Audit compares the data plane with the kernel.
func (v view) Audit(ctx context.Context, f func(api.Difference)) (api.AuditCounts, error) {
	sum, err := v.d.o.Plane.(plane.Auditor).Audit(ctx, func(d plane.Difference) bool {
		f(api.Difference(d))
		return ctx.Err() == nil
	})
	if err == nil {
		err = ctx.Err() // it was ended
	}
	return api.AuditCounts(sum), err
}

// Pairs tells what pair addresses stand for.
func (v view) Pairs() ([]api.Pair, bool) {
	p, ok := v.d.o.Plane.(plane.Pairer)
	if !ok {
		return nil, false
	}
	var out []api.Pair
	for _, x := range p.Pairs() {
		out = append(out, api.Pair{Address4: x.Addr4, Address6: x.Addr6, Primary: x.Primary, Backup: x.Backup, Now: x.Now})
	}
	return out, true
}
