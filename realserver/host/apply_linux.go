package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"tunneldirector/realserver/space"
)

// Plan tells what Apply would do, in its order, and touches nothing. What could be worked out is there on an error, too.
func (h *Host) Plan(ctx context.Context) ([]Change, error) {
	st, err := loadState(h.cfg.StateFile)
	if err != nil {
		return nil, err
	}
	return h.walk(ctx, &run{host: h, state: st, dry: true})
}

// Apply makes the host right, and tells what it did and what it left. It is idempotent; to keep the host right, call it again.
// What another configuration wanted, that an earlier Apply had, is put back; while the configuration stays nothing is, since what is
// needed comes and goes with devices that are down for a while. A real server that cannot be made right does not stop the
// others; of one, nothing is done after what failed, so that a VIP is not held where it would be answered for.
func (h *Host) Apply(ctx context.Context) ([]Change, error) {
	return h.locked(func(st *state) ([]Change, error) { return h.walk(ctx, &run{host: h, state: st}) })
}

// Revert puts back what was there before the first Apply, where it still is as Apply left it. What it left, because somebody
// else changed it since, is among the Changes.
func (h *Host) Revert(ctx context.Context) ([]Change, error) {
	return h.locked(func(st *state) ([]Change, error) {
		r := &run{host: h, state: st}
		var errs []error
		for _, s := range h.spaces(st) {
			errs = append(errs, r.in(s, func(v *view) error { return r.undoAll(ctx, v, func(record) bool { return true }) }))
		}
		return r.changes, errors.Join(errs...)
	})
}

// locked has the state file to itself: a second program that would change the host is told so.
func (h *Host) locked(f func(*state) ([]Change, error)) ([]Change, error) {
	lock, err := os.OpenFile(h.cfg.StateFile+".lock", os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the host's state: %w", err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, fmt.Errorf("lock %s: another program is changing the host: %w", lock.Name(), err)
	}
	st, err := loadState(h.cfg.StateFile)
	if err != nil {
		return nil, err
	}
	return f(st)
}

// spaces are all that are wanted or were changed.
func (h *Host) spaces(st *state) []space.Space {
	var list []space.Space
	for _, in := range h.cfg.Instances {
		list = append(list, in.Space)
	}
	for _, r := range st.Records {
		list = append(list, space.Space(r.Space))
	}
	slices.Sort(list)
	return slices.Compact(list)
}

func (h *Host) walk(ctx context.Context, r *run) ([]Change, error) {
	config := h.cfg.digest()
	if r.other = r.state.Config != config; r.other && !r.dry {
		r.state.Config = "" // until all is done none is the one that was applied; the first record takes it to the disk
	}
	var errs []error
	for _, s := range h.spaces(r.state) {
		var instances []*Instance
		for i := range h.cfg.Instances {
			if h.cfg.Instances[i].Space == s {
				instances = append(instances, &h.cfg.Instances[i])
			}
		}
		errs = append(errs, r.in(s, func(v *view) error { return r.all(ctx, v, instances) }))
	}
	if err := errors.Join(errs...); err != nil || r.dry || !r.other {
		return r.changes, err
	}
	r.state.Config = config
	return r.changes, r.save()
}

// A run is one call of Plan, Apply or Revert.
type run struct {
	host    *Host
	state   *state
	dry     bool
	other   bool // the configuration is another than that of the last Apply
	changes []Change
}

func (r *run) save() error { return r.state.save(r.host.cfg.StateFile) }

// in looks into a namespace. What was changed in one that is gone went with it.
func (r *run) in(s space.Space, f func(*view) error) error {
	entered := false
	err := look(s, func(v *view) error {
		entered = true
		life, err := v.life()
		if err != nil {
			return err
		}
		r.state.live(string(s), life)
		return f(v)
	})
	if entered || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	r.state.drop(string(s), "")
	if !r.dry {
		err = errors.Join(err, r.save())
	}
	if slices.ContainsFunc(r.host.cfg.Instances, func(in Instance) bool { return in.Space == s }) {
		return err
	}
	return nil
}

// all makes one namespace right.
func (r *run) all(ctx context.Context, v *view, instances []*Instance) error {
	p, whole, err := planFor(v, r.state, r.host.cfg.Instances, instances)
	r.changes = append(r.changes, p.notes...)
	errs := []error{err}
	failed := map[string]bool{}
	for _, w := range p.wants {
		if slices.ContainsFunc(w.of, func(name string) bool { return failed[name] }) {
			continue
		}
		if err := r.do(ctx, v, w); err != nil {
			errs = append(errs, fmt.Errorf("real server %s: %w", strings.Join(w.of, ", "), err))
			for _, name := range w.of {
				failed[name] = true
			}
		}
	}
	// What is not wanted any more goes last, and only when all that takes its place is there: a VIP whose new holder cannot be
	// made stays where it is.
	if err := errors.Join(errs...); err != nil || !whole || !r.other {
		return err
	}
	return r.undoAll(ctx, v, func(rec record) bool {
		return !slices.ContainsFunc(p.wants, func(w want) bool { return w.key() == rec.Key })
	})
}

// do makes one thing so.
func (r *run) do(ctx context.Context, v *view, w want) error {
	now, err := w.read(v)
	if err != nil {
		return fmt.Errorf("read %v: %w", w, err)
	}
	rec := r.state.find(string(v.space), w.key())
	ours := rec != nil
	c := Change{Space: v.space, Object: w.String(), From: shown(w.piece, now), To: w.value, Why: w.why}
	switch {
	case w.same(now, w.value), slices.Contains(w.good, now):
		if !ours && w.object() {
			c.Why, c.Left = "it was there before, and is not ours", true
			r.changes = append(r.changes, c)
		}
		return nil
	case !ours && w.object() && now != "":
		return fmt.Errorf("%v is there already, %s, where %s is wanted: remove it, or give the real server another name", w, now, w.value)
	case ours && w.object() && now != "" && !rec.made(w.piece, now):
		return fmt.Errorf("%v is %s, which is not ours, where %s is wanted: somebody else made it anew; remove it, or give the real server another name", w, now, w.value)
	case r.dry:
		r.changes = append(r.changes, c)
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	r.state.note(string(v.space), w.key(), now, w.value)
	if err := r.save(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := w.write(v, w.value); err != nil {
		return fmt.Errorf("set %v to %s: %w", w, w.value, err)
	}
	r.changes = append(r.changes, c)
	return nil
}

// made tells whether a value is one that we made.
func (r *record) made(p piece, now string) bool {
	return slices.ContainsFunc(r.Made, func(value string) bool { return p.same(now, value) })
}

// shown is a value for people: of forwarding, the switch without all that it changes.
func shown(p piece, value string) string {
	if _, ok := p.(forwarding); ok {
		value, _, _ = strings.Cut(value, " ")
	}
	return value
}

// undoAll puts back, the newest first, what which says.
func (r *run) undoAll(ctx context.Context, v *view, which func(record) bool) error {
	var errs []error
	for _, rec := range r.state.of(string(v.space)) {
		if which(rec) {
			errs = append(errs, r.undo(ctx, v, rec))
		}
	}
	return errors.Join(errs...)
}

func (r *run) undo(ctx context.Context, v *view, rec record) error {
	p, err := parsePiece(rec.Key)
	if err != nil {
		return fmt.Errorf("put back %q: %w", rec.Key, err)
	}
	now, err := p.read(v)
	if err != nil {
		return fmt.Errorf("read %v: %w", p, err)
	}
	made := rec.made(p, now)
	c := Change{Space: v.space, Object: p.String(), From: shown(p, now), To: shown(p, rec.Was), Why: "it is as it was before"}
	if a, ok := p.(address); ok && made && now != "" && rec.Was == "" {
		if err := r.unsource(v, a); err != nil {
			return fmt.Errorf("put back %v: %w", p, err)
		}
	}
	switch {
	case now == "" || p.same(now, rec.Was): // gone with its device, or never changed
	case made && r.dry:
		r.changes = append(r.changes, c)
	case made:
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := p.write(v, rec.Was); err != nil {
			return fmt.Errorf("put back %v to %q: %w", p, rec.Was, err)
		}
		r.changes = append(r.changes, c)
	default:
		c.To, c.Left = c.From, true
		c.Why = fmt.Sprintf("somebody else changed it from our %q, and it was %q before", rec.Made[len(rec.Made)-1], shown(p, rec.Was))
		r.changes = append(r.changes, c)
	}
	r.state.drop(string(v.space), rec.Key)
	if r.dry {
		return nil
	}
	return r.save()
}
