package drill

import (
	"embed"
	"fmt"
	"slices"
	"strings"
)

//go:embed builtin/*.yaml
var builtin embed.FS

// Builtin are the drills that come with the program, by name. Each call makes its own.
func Builtin() []*Drill {
	files, err := builtin.ReadDir("builtin")
	if err != nil {
		panic(err) // it is part of the program
	}
	var list []*Drill
	for _, f := range files {
		text, _ := Text(strings.TrimSuffix(f.Name(), ".yaml"))
		d, err := Parse([]byte(text), f.Name())
		if err != nil {
			panic(fmt.Sprintf("built in: %v", err)) // a test reads them all
		}
		list = append(list, d)
	}
	slices.SortFunc(list, func(a, b *Drill) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// Text is the file of a drill that comes with the program, as a start for one's own; false if there is none of this name.
func Text(name string) (string, bool) {
	text, err := builtin.ReadFile("builtin/" + name + ".yaml")
	return string(text), err == nil
}
