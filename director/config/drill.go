package config

// Drill is about failures that are made on purpose, to rehearse them.
type Drill struct {
	Allow     bool // make them here, for operators and tokens of the role drill
	Restarted bool // whoever runs the daemon starts it again when it is killed; where systemd does that is known
}

func (v value) drill(d *Drill) {
	v.fields(
		field{"allow", func(v value) { v.bool(&d.Allow) }},
		field{"restarted", func(v value) { v.bool(&d.Restarted) }},
	)
}
