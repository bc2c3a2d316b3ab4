package config

// BlackBox is about the recordings of dropped packets, in the directory blackbox below the data directory.
type BlackBox struct {
	MaxSize uint64 // bytes of all; the oldest go first
}

func (v value) blackBox(b *BlackBox) {
	v.fields(field{"max_size", func(v value) { v.size(&b.MaxSize, 16<<20, 64<<30) }})
}
