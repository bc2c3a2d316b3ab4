package realserver

// A chain is entries in the order of their last change. Each entry is in one, by links of its own: those of container/list are 48 bytes
// more for each of 10,000 tunnels.
type chain struct {
	first, last *entry
	n           int
}

func (c *chain) push(x *entry) {
	x.before, x.after = c.last, nil
	if c.last == nil {
		c.first = x
	} else {
		c.last.after = x
	}
	c.last = x
	c.n++
}

func (c *chain) remove(x *entry) {
	if x.before == nil {
		c.first = x.after
	} else {
		x.before.after = x.after
	}
	if x.after == nil {
		c.last = x.before
	} else {
		x.after.before = x.before
	}
	x.before, x.after = nil, nil
	c.n--
}

// renew makes an entry the one that changed last.
func (c *chain) renew(x *entry) {
	c.remove(x)
	c.push(x)
}

// since is the first entry that changed after seq, and how many did.
func (c *chain) since(seq uint64) (first *entry, n int) {
	for x := c.last; x != nil && x.seq > seq; x = x.before {
		first = x
		n++
	}
	return first, n
}
