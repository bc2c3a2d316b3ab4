package config

import "time"

// Journal is about the events on disk, in the directory journal below the data directory.
type Journal struct {
	MaxSize uint64        // bytes of all; the oldest go first
	MaxAge  time.Duration // after which they go, too
}

func (v value) journal(j *Journal) {
	v.fields(
		field{"max_size", func(v value) { v.size(&j.MaxSize, 1<<20, 64<<30) }},
		field{"max_age", func(v value) { v.duration(&j.MaxAge, time.Hour, 10*365*24*time.Hour) }},
	)
}
