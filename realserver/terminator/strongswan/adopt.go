package strongswan

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"tunneldirector/director/agent"
	"tunneldirector/realserver/terminator"
)

const (
	// again is how soon after a first try a second one is about the same tunnel: it waits to see why it fails.
	again = 10 * time.Minute
	// patience is how long it waits: for two round trips and what charon has to compute.
	patience = time.Second
)

// Adopt begins a tunnel towards the site. The first try returns at once. One after a try that came to nothing waits up to a
// second, and tells if it is for want of what charon lacks, or the site's refusal, that it fails.
func (d *Driver) Adopt(ctx context.Context, t agent.Inherited) error {
	c, identity, err := d.connectionOf(ctx, t)
	if err != nil {
		return fmt.Errorf("adopt %s: %w", t.ID, err)
	}
	copied, err := d.copy(ctx, c, identity, t)
	if err != nil {
		return fmt.Errorf("adopt %s: %w", t.ID, err)
	}
	if _, err := d.clear(ctx, t, copied.name); err != nil {
		return fmt.Errorf("adopt %s: clear what is stale: %w", t.ID, err)
	}
	if err := d.begin(ctx, copied, d.second(t.ID)); err != nil {
		return fmt.Errorf("adopt %s: %w", t.ID, err)
	}
	return nil
}

// second notes a try, and tells whether there was one a while ago.
func (d *Driver) second(id string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	for other, at := range d.tried {
		if now.Sub(at) > again || len(d.tried) > agent.MaxReported {
			delete(d.tried, other)
		}
	}
	_, before := d.tried[id]
	d.tried[id] = now
	return before
}

// begin loads a copy, begins its CHILD_SAs, and unloads it.
func (d *Driver) begin(ctx context.Context, c copied, wait bool) (err error) {
	d.hold(c.name, true)
	defer d.hold(c.name, false)
	if err := d.call(ctx, "load-conn", c.load, "", nil); err != nil {
		return err
	}
	defer func() {
		// Also when ctx has ended: what Adopt loads must not stay. If it does, it is unloaded at the next look.
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), d.o.Timeout)
		defer cancel()
		if failed := d.unload(end, c.name); failed != nil && err != nil {
			err = errors.Join(err, failed)
		}
	}()
	for i, child := range c.children {
		timeout := "-1"
		if wait && i == 0 {
			timeout = fmt.Sprint(patience.Milliseconds())
		}
		if err := d.initiate(ctx, c.name, child, timeout); err != nil {
			return err
		}
	}
	return nil
}

// hold notes that a copy is in use.
func (d *Driver) hold(name string, on bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.held[name] = on; !on {
		delete(d.held, name)
	}
}

// unload takes a copy away; a failure is remembered.
func (d *Driver) unload(ctx context.Context, name string) error {
	err := d.call(ctx, "unload-conn", message(nil).value("name", name), "", nil)
	if err != nil {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.tidy = false
	}
	return err
}

// sweep unloads copies that nobody uses, if there may be any: an earlier run of the agent, or charon's slowness, left them.
func (d *Driver) sweep(ctx context.Context) error {
	d.mu.Lock()
	tidy := d.tidy
	d.tidy = true
	d.mu.Unlock()
	if tidy {
		return nil
	}
	var left []string
	err := d.call(ctx, "get-conns", nil, "", func(m message) error {
		return m.each(func(_ sections, key, value []byte) error {
			if name := string(value); string(key) == "conns" && original(name) != name {
				left = append(left, name)
			}
			return nil
		})
	})
	for _, name := range left {
		d.mu.Lock()
		used := d.held[name]
		d.mu.Unlock()
		if err == nil && !used {
			err = d.unload(ctx, name)
		}
	}
	if err != nil {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.tidy = false
	}
	return err
}

// refusals are what charon logs where another try would end alike.
var refusals = []struct{ log, says string }{
	{"no private key found", "charon has no private key for the VIP's identity"},
	{"no shared key found", "charon has no shared secret of the VIP's identity and the site's"},
	{"AUTHENTICATION_FAILED", "the site does not take the VIP for who it says it is"},
	{"NO_PROPOSAL_CHOSEN", "the site wants other proposals"},
	{"TS_UNACCEPTABLE", "the site wants other traffic selectors"},
	{"constraint check failed", "the site is not who it was"},
	{"no trusted", "charon does not trust the site's certificate"},
}

// initiate begins a CHILD_SA. With a timeout it says why nothing comes of it; that time is up is no failure.
func (d *Driver) initiate(ctx context.Context, ike, child, timeout string) error {
	m := message(nil).value("ike", ike).value("child", child).value("timeout", timeout)
	why := ""
	err := d.call(ctx, "initiate", m, "control-log", func(m message) error {
		return m.each(func(_ sections, key, value []byte) error {
			for _, r := range refusals {
				if string(key) == "msg" && why == "" && strings.Contains(string(value), r.log) {
					why = r.says
				}
			}
			return nil
		})
	})
	var says refusal
	switch {
	case err == nil || !errors.As(err, &says):
		return err
	case why != "":
		return fmt.Errorf("%s: %w", why, terminator.ErrWait)
	case strings.Contains(says.says, "not established after"):
		return nil
	}
	return err
}

// Release ends a peer's tunnel: the site is told once, by a DELETE, and not waited for.
func (d *Driver) Release(ctx context.Context, t agent.Inherited) error {
	d.mu.Lock()
	known := d.sites[d.here(t)] != nil
	d.mu.Unlock()
	if !known {
		if _, err := d.look(ctx, nil); err != nil {
			return fmt.Errorf("release %s: %w", t.ID, err)
		}
	}
	elsewhere, err := d.clear(ctx, t, "")
	if err = errors.Join(err, elsewhere); err != nil {
		return fmt.Errorf("release %s: %w", t.ID, err)
	}
	return nil
}

// here is what the peer of an order is called among what was seen last. The caller holds mu.
func (d *Driver) here(t agent.Inherited) string {
	return terminator.Here(t.Peer, func(name string) bool { return d.sites[name] != nil })
}

// clear ends the IKE SAs of a peer and those begun for a copy, as far as they were there at the last look. Another site may have the
// same name: what comes from elsewhere than the order says is its, and elsewhere tells of it if there was nothing to end.
func (d *Driver) clear(ctx context.Context, t agent.Inherited, begun string) (elsewhere, err error) {
	d.mu.Lock()
	all, name := slices.Clone(d.last.begun[begun]), d.here(t)
	var others []netip.AddrPort
	if x := d.sites[name]; x != nil {
		for _, s := range x.known.sas {
			if terminator.IsAt(t.Endpoint, s.remote) {
				all = append(all, s.id)
			} else {
				others = append(others, s.remote)
			}
		}
	}
	d.mu.Unlock()
	for _, id := range all {
		if err := d.terminate(ctx, id, name, t.Endpoint, begun); err != nil {
			return nil, err
		}
	}
	if len(all) > 0 {
		return nil, nil
	}
	return terminator.Elsewhere(name, t.Endpoint, others), nil
}

// terminate ends an IKE SA if it still is one of that peer or copy: charon may be another than at the last look.
func (d *Driver) terminate(ctx context.Context, id uint64, name string, at netip.AddrPort, begun string) error {
	number := fmt.Sprint(id)
	still := false
	err := d.call(ctx, "list-sas", message(nil).value("ike-id", number), "list-sa", func(m message) error {
		one, err := readSA(m, sa{})
		ours := peerName(one.connection, one.identity) == name && terminator.IsAt(at, one.remote)
		still = still || one.id == id && (one.connection == begun || ours)
		return err
	})
	if err != nil || !still {
		return err
	}
	err = d.call(ctx, "terminate", message(nil).value("ike-id", number).value("force", "yes").value("timeout", "-1"), "", nil)
	var says refusal
	if errors.As(err, &says) { // it ended by itself
		return nil
	}
	return err
}
