package host

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// A ruleset is what nftables holds in a namespace, iptables' own over nftables included.
type ruleset struct {
	conn   *nftables.Conn
	chains map[string]*nftables.Chain // by table and name
	rules  map[string][]*nftables.Rule
	sets   map[string]*set
}

// readRuleset reads the chains. Where the kernel has no nf_tables there are none.
func readRuleset() (*ruleset, error) {
	conn, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	r := &ruleset{conn, map[string]*nftables.Chain{}, map[string][]*nftables.Rule{}, map[string]*set{}}
	list, err := conn.ListChains()
	if noTables(err) {
		return r, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list chains of nftables: %w", err)
	}
	for _, c := range list {
		r.chains[chainKey(c.Table, c.Name)] = c
	}
	return r, nil
}

func chainKey(t *nftables.Table, name string) string {
	return fmt.Sprintf("%d %s %s", t.Family, t.Name, name)
}

func (r *ruleset) of(c *nftables.Chain) ([]*nftables.Rule, error) {
	key := chainKey(c.Table, c.Name)
	if list, ok := r.rules[key]; ok {
		return list, nil
	}
	list, err := r.conn.GetRules(c.Table, c)
	if err != nil {
		return nil, fmt.Errorf("read nftables chain %s %s: %w", c.Table.Name, c.Name, err)
	}
	r.rules[key] = list
	return list, nil
}

// base are the chains of a hook that a flow goes through, in their order.
func (r *ruleset) base(hook nftables.ChainHook, f *flow) (list []*nftables.Chain) {
	for _, c := range r.chains {
		if c.Hooknum == nil || c.Priority == nil {
			continue
		}
		switch c.Table.Family {
		case nftables.TableFamilyINet:
		case nftables.TableFamilyIPv4:
			if f.v6 {
				continue
			}
		case nftables.TableFamilyIPv6:
			if !f.v6 {
				continue
			}
		default:
			continue // of frames, not of packets
		}
		if *c.Hooknum == hook {
			list = append(list, c)
		}
	}
	slices.SortFunc(list, func(a, b *nftables.Chain) int {
		return cmp.Or(cmp.Compare(*a.Priority, *b.Priority), cmp.Compare(a.Table.Name, b.Table.Name))
	})
	return list
}

// A place is what drops: a rule, or a chain's policy.
type place struct {
	family nftables.TableFamily
	table  string
	chain  string
	handle uint64 // 0: the policy
}

func (p place) chainName() string {
	family := map[nftables.TableFamily]string{nftables.TableFamilyINet: "inet", nftables.TableFamilyIPv4: "ip", nftables.TableFamilyIPv6: "ip6"}[p.family]
	return family + " " + p.table + " " + p.chain
}

func (p place) String() string {
	if p.handle == 0 {
		return "the policy of nftables chain " + p.chainName()
	}
	return fmt.Sprintf("the rule with handle %d of nftables chain %s", p.handle, p.chainName())
}

// A drop is a place that a flow may meet its end at.
type drop struct {
	place
	sure bool
}

// A walk is a flow's way through one base chain.
type walk struct {
	*ruleset
	flow    *flow
	drops   []drop
	invalid []place // that drop what conntrack calls invalid
	escaped bool    // some of it may have been let in before
	depth   int
}

// through walks all base chains of a flow's hooks.
func (r *ruleset) through(f *flow) (drops []drop, invalid []place, err error) {
	for _, hook := range f.hooks {
		for _, c := range r.base(*hook, f) {
			w := &walk{ruleset: r, flow: f}
			decided, err := w.chain(c, true)
			if err != nil {
				return nil, nil, err
			}
			if !decided && c.Policy != nil && *c.Policy == nftables.ChainPolicyDrop {
				w.drops = append(w.drops, drop{place{c.Table.Family, c.Table.Name, c.Name, 0}, !w.escaped})
			}
			drops, invalid = append(drops, w.drops...), append(invalid, w.invalid...)
		}
	}
	return drops, invalid, nil
}

// chain tells whether the flow's fate is decided there for all of it.
func (w *walk) chain(c *nftables.Chain, sure bool) (decided bool, err error) {
	if w.depth > 16 { // the kernel's own limit
		return false, nil
	}
	w.depth++
	defer func() { w.depth-- }()
	rules, err := w.of(c)
	if err != nil {
		return false, err
	}
	for _, r := range rules {
		m := &machine{walk: w, table: c.Table, regs: map[uint32]value{}, match: yes}
		m.run(r.Exprs)
		here := place{c.Table.Family, c.Table.Name, c.Name, r.Handle}
		if m.dropsInvalid {
			w.invalid = append(w.invalid, here)
		}
		for _, v := range m.verdicts {
			if v.match == no {
				continue
			}
			certain := sure && v.match == yes
			done, stop, err := w.verdict(c, here, v.Verdict, certain)
			if err != nil || done {
				return done, err
			}
			if stop {
				return false, nil
			}
		}
	}
	return false, nil
}

// verdict follows one: done is for all of the flow, stop ends this chain.
func (w *walk) verdict(c *nftables.Chain, here place, v expr.Verdict, certain bool) (done, stop bool, err error) {
	switch v.Kind {
	case expr.VerdictAccept:
		w.escaped = w.escaped || !certain
		return certain, false, nil
	case expr.VerdictDrop:
		w.drops = append(w.drops, drop{here, certain && !w.escaped})
		return certain, false, nil
	case expr.VerdictReturn:
		return false, certain, nil
	case expr.VerdictJump, expr.VerdictGoto:
		to, ok := w.chains[chainKey(c.Table, v.Chain)]
		if !ok {
			return false, false, nil
		}
		decided, err := w.chain(to, certain)
		return decided && certain, certain && v.Kind == expr.VerdictGoto, err
	}
	return false, false, nil
}

// A set is one of nftables, or a map.
type set struct {
	ranges   bool
	elements []nftables.SetElement
}

func (r *ruleset) set(t *nftables.Table, name string) (*set, error) {
	key := chainKey(t, name)
	if s, ok := r.sets[key]; ok {
		return s, nil
	}
	have, err := r.conn.GetSetByName(t, name)
	if err != nil {
		return nil, fmt.Errorf("read nftables set %s %s: %w", t.Name, name, err)
	}
	have.Table = t
	list, err := r.conn.GetSetElements(have)
	if err != nil {
		return nil, fmt.Errorf("read nftables set %s %s: %w", t.Name, name, err)
	}
	r.sets[key] = &set{have.Interval, list}
	return r.sets[key], nil
}

// find is the element that holds a key, nil if there is none. Of ranges it is the one that begins highest at or below it, if it
// is not an end.
func (s *set) find(key []byte) (found *nftables.SetElement) {
	for i := range s.elements {
		e := &s.elements[i]
		switch c := bytes.Compare(e.Key, key); {
		case !s.ranges && c == 0:
			return e
		case !s.ranges, c > 0:
		case found == nil, bytes.Compare(e.Key, found.Key) > 0, bytes.Equal(e.Key, found.Key) && found.IntervalEnd:
			found = e
		}
	}
	if found == nil || found.IntervalEnd {
		return nil
	}
	return found
}
