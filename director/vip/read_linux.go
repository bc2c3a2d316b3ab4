package vip

import (
	"slices"

	"github.com/google/nftables"
)

// A state is what the kernel holds.
type state struct {
	table  *nftables.Table // nil: absent
	intact bool            // all but the elements is as newStructure says
	sets   map[string]elements
}

// table finds ours, nil if it is absent.
func (f *Filter) table() (*nftables.Table, error) {
	tables, err := f.conn.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return nil, filterError("list packet filter tables", err)
	}
	for _, t := range tables {
		if t.Name == TableName {
			return t, nil
		}
	}
	return nil, nil
}

func (f *Filter) read() (*state, error) {
	t, err := f.table()
	if err != nil || t == nil {
		return &state{}, err
	}
	have, want := &state{table: t, sets: map[string]elements{}}, newStructure()
	if t.Flags != 0 {
		return have, nil // we set none; one of them (dormant) puts the table to sleep, and it drops nothing
	}
	for _, part := range []func(*state, *structure) (bool, error){f.readSets, f.readCounters, f.readChains, f.readRules} {
		ok, err := part(have, want)
		if err != nil {
			return nil, filterError("read packet filter inet "+TableName, err)
		}
		if !ok {
			return have, nil
		}
	}
	have.intact = true
	return have, nil
}

func (f *Filter) readSets(have *state, want *structure) (bool, error) {
	sets, err := f.conn.GetSets(have.table)
	if err != nil || len(sets) != len(want.sets) {
		return false, err
	}
	for _, w := range want.sets {
		i := slices.IndexFunc(sets, func(s *nftables.Set) bool {
			return s.Name == w.Name && s.KeyType.GetNFTMagic() == w.KeyType.GetNFTMagic() && s.Interval == w.Interval && !s.HasTimeout
		})
		if i < 0 {
			return false, nil
		}
		list, err := f.conn.GetSetElements(sets[i])
		if err != nil {
			return false, err
		}
		els := elements{}
		for _, e := range list {
			els.add(nftables.SetElement{Key: e.Key, KeyEnd: e.KeyEnd})
		}
		have.sets[w.Name] = els
	}
	return true, nil
}

func (f *Filter) readCounters(have *state, want *structure) (bool, error) {
	objs, err := f.conn.GetNamedObjects(have.table)
	if err != nil || len(objs) != len(want.counters) {
		return false, err
	}
	for _, o := range objs {
		n, ok := o.(*nftables.NamedObj)
		if !ok || n.Type != nftables.ObjTypeCounter || !slices.Contains(want.counters, n.Name) {
			return false, nil
		}
	}
	return true, nil
}

func (f *Filter) readChains(have *state, want *structure) (bool, error) {
	all, err := f.conn.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return false, err
	}
	ours := slices.DeleteFunc(all, func(c *nftables.Chain) bool { return c.Table.Name != TableName })
	if len(ours) != len(want.chains) {
		return false, nil
	}
	for _, w := range want.chains {
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
func (f *Filter) readRules(have *state, want *structure) (bool, error) {
	for _, c := range want.chains {
		rules, err := f.conn.GetRules(have.table, c)
		if err != nil {
			return false, err
		}
		var names, wanted []string
		for _, r := range rules {
			names = append(names, string(r.UserData))
		}
		for _, r := range want.rules {
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
