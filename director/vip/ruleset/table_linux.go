package ruleset

import (
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
)

// A Table declares everything of a table of family inet but its sets' elements.
type Table struct {
	layout   string
	table    *nftables.Table
	sets     []*nftables.Set
	counters []string
	chains   []*nftables.Chain
	rules    []*nftables.Rule // in order; UserData is their name
}

// New declares an empty table. The layout names the rules: change it with them, and a start replaces the table of an older
// program.
func New(name, layout string) *Table {
	return &Table{layout: layout, table: &nftables.Table{Name: name, Family: nftables.TableFamilyINet}}
}

// Set declares a set of keys of the given types, concatenated.
func (t *Table) Set(name string, key ...nftables.SetDatatype) { t.set(name, false, key) }

// Timed declares a set of keys that the kernel takes out after the time they were added for.
func (t *Table) Timed(name string, key ...nftables.SetDatatype) {
	t.set(name, false, key).HasTimeout = true
}

// Ranges declares a set of ranges over concatenated keys.
func (t *Table) Ranges(name string, key ...nftables.SetDatatype) { t.set(name, true, key) }

func (t *Table) set(name string, ranges bool, key []nftables.SetDatatype) *nftables.Set {
	s := &nftables.Set{Table: t.table, Name: name, KeyType: key[0], Interval: ranges, Concatenation: len(key) > 1,
		KeyByteOrder: binaryutil.BigEndian, ID: uint32(len(t.sets) + 1)}
	if len(key) > 1 {
		s.KeyType = nftables.MustConcatSetType(key...)
	}
	t.sets = append(t.sets, s)
	return s
}

// Counter declares named counters.
func (t *Table) Counter(names ...string) { t.counters = append(t.counters, names...) }

// Chain declares a chain that others jump to.
func (t *Table) Chain(name string) *nftables.Chain {
	c := &nftables.Chain{Name: name, Table: t.table}
	t.chains = append(t.chains, c)
	return c
}

// Hook declares a chain at a hook of the kernel; what no rule drops goes on.
func (t *Table) Hook(name string, hook *nftables.ChainHook, priority nftables.ChainPriority) *nftables.Chain {
	accept := nftables.ChainPolicyAccept
	c := t.Chain(name)
	c.Hooknum, c.Priority, c.Type, c.Policy = hook, &priority, nftables.ChainTypeFilter, &accept
	return c
}

// Rule declares the next rule of a chain.
func (t *Table) Rule(c *nftables.Chain, parts ...[]expr.Any) {
	name := fmt.Appendf(nil, "%s-%d", t.layout, len(t.rules))
	t.rules = append(t.rules, &nftables.Rule{Table: t.table, Chain: c, Exprs: slices.Concat(parts...), UserData: name})
}
