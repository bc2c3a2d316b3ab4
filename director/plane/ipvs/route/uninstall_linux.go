package route

import (
	"context"
	"errors"
)

// Uninstall takes everything of ours out of the network namespace: rules, routes, nexthops and their members, the sink and
// the tunnel devices, in that order, so that nothing leads to what is gone. What is not there is no error; one that is
// there and will not go does not keep the rest, except that nexthops stay as long as routes of ours lead to them.
func (t *Tables) Uninstall(ctx context.Context) error {
	errs := []error{t.SetRules(ctx, nil)}
	var routes []Route
	for r, err := range t.Routes(0) {
		if err != nil {
			return errors.Join(append(errs, err)...)
		}
		routes = append(routes, r)
	}
	errs = append(errs, t.DeleteRoutes(ctx, routes))
	var ids []uint32
	for n, err := range t.Nexthops() {
		if err != nil {
			return errors.Join(append(errs, err)...)
		}
		ids = append(ids, n.ID)
	}
	errs = append(errs, t.DeleteNexthops(ctx, ids))
	if len(ids) == 0 {
		errs = append(errs, t.removeLink(SinkName)) // that of a SetNexthops that got no further
	}
	return errors.Join(append(errs, t.removeLink(Tunnel4), t.removeLink(Tunnel6))...)
}
