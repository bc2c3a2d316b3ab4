package ruleset

import (
	"slices"

	"github.com/google/nftables"
)

// A state is what the kernel holds.
type state struct {
	table  *nftables.Table // nil: absent
	intact bool            // all but the elements is as declared
	sets   map[string]Elements
}

// find finds the table in the kernel, nil if it is absent.
func (k *Keeper) find() (*nftables.Table, error) {
	tables, err := k.conn.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return nil, failure("list nftables tables", err)
	}
	for _, t := range tables {
		if t.Name == k.want.table.Name {
			return t, nil
		}
	}
	return nil, nil
}

// read compares. The elements of sets that are as declared are read even if something else is not.
func (k *Keeper) read() (*state, error) {
	t, err := k.find()
	if err != nil || t == nil {
		return &state{}, err
	}
	// We set no flags; one of them (dormant) puts the table to sleep, and it drops nothing.
	have := &state{table: t, sets: map[string]Elements{}, intact: t.Flags == 0}
	for _, part := range []func(*state) (bool, error){k.readSets, k.readCounters, k.readChains, k.readRules} {
		ok, err := part(have)
		if err != nil {
			return nil, failure("read nftables table inet "+t.Name, err)
		}
		have.intact = have.intact && ok
		if !have.intact {
			break
		}
	}
	return have, nil
}

func (k *Keeper) readSets(have *state) (bool, error) {
	sets, err := k.conn.GetSets(have.table)
	if err != nil {
		return false, err
	}
	same := len(sets) == len(k.want.sets)
	for _, w := range k.want.sets {
		i := slices.IndexFunc(sets, func(s *nftables.Set) bool {
			return s.Name == w.Name && s.KeyType.GetNFTMagic() == w.KeyType.GetNFTMagic() && s.Interval == w.Interval && s.HasTimeout == w.HasTimeout
		})
		if i < 0 {
			same = false
			continue
		}
		list, err := k.conn.GetSetElements(sets[i])
		if err != nil {
			return false, err
		}
		els := Elements{}
		for _, e := range list {
			els.add(nftables.SetElement{Key: e.Key, KeyEnd: e.KeyEnd})
		}
		have.sets[w.Name] = els
	}
	return same, nil
}

func (k *Keeper) readCounters(have *state) (bool, error) {
	objs, err := k.conn.GetNamedObjects(have.table)
	if err != nil || len(objs) != len(k.want.counters) {
		return false, err
	}
	for _, o := range objs {
		n, ok := o.(*nftables.NamedObj)
		if !ok || n.Type != nftables.ObjTypeCounter || !slices.Contains(k.want.counters, n.Name) {
			return false, nil
		}
	}
	return true, nil
}

func (k *Keeper) readChains(have *state) (bool, error) {
	all, err := k.conn.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return false, err
	}
	ours := slices.DeleteFunc(all, func(c *nftables.Chain) bool { return c.Table.Name != have.table.Name })
	if len(ours) != len(k.want.chains) {
		return false, nil
	}
	for _, w := range k.want.chains {
		if !slices.ContainsFunc(ours, func(c *nftables.Chain) bool { return sameChain(c, w) }) {
			return false, nil
		}
	}
	return true, nil
}

func sameChain(a, b *nftables.Chain) bool {
	if a.Name != b.Name || (a.Hooknum == nil) != (b.Hooknum == nil) {
		return false
	}
	if a.Hooknum == nil {
		return true
	}
	return *a.Hooknum == *b.Hooknum && a.Type == b.Type && a.Priority != nil && *a.Priority == *b.Priority
}

// readRules compares the rules' names, in order: who edits a rule by hand loses the name or changes the number of rules.
func (k *Keeper) readRules(have *state) (bool, error) {
	for _, c := range k.want.chains {
		rules, err := k.conn.GetRules(have.table, c)
		if err != nil {
			return false, err
		}
		var names, wanted []string
		for _, r := range rules {
			names = append(names, string(r.UserData))
		}
		for _, r := range k.want.rules {
			if r.Chain == c {
				wanted = append(wanted, string(r.UserData))
			}
		}
		if !slices.Equal(names, wanted) {
			return false, nil
		}
	}
	return true, nil
}
