package director

import (
	"errors"
	"strings"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
)

// Unable is the error of a table that asks for what the plane cannot do: all of it.
type Unable []plane.Inability

func (u Unable) Error() string {
	lines := make([]string, len(u))
	for i, x := range u {
		lines[i] = objectWord(x.Kind, x.Name) + ", " + x.Fault.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap makes it plane.ErrUnsupported.
func (u Unable) Unwrap() error { return plane.ErrUnsupported }

// Check asks a plane what of a configuration it cannot do. The error is Unable; a plane that does not check can do all.
func Check(p plane.Plane, c plane.Config) error {
	if checker, ok := p.(plane.Checker); ok {
		if list := checker.Check(c); len(list) > 0 {
			return Unable(list)
		}
	}
	return nil
}

// objectWord is an object of an Inability as people call it.
func objectWord(kind, name string) string {
	switch {
	case kind == "realserver":
		return "real server " + name
	case kind == "tenant" && name == "":
		return "tenant default"
	}
	return kind + " " + name
}

// able changes an object of the configuration, or changes nothing and says what the plane could not do then.
func (x *tx) able(kind, name string, change func()) *affinity.Refusal {
	if _, checks := x.d.o.Plane.(plane.Checker); !checks {
		change()
		return nil
	}
	saved := x.t.Save()
	change()
	var list Unable
	if !errors.As(Check(x.d.o.Plane, asked(x.t, x.d.local.own)), &list) {
		return nil
	}
	x.t = saved
	object := objectWord(kind, name)
	r := &affinity.Refusal{Reason: affinity.Invalid, Object: object}
	for _, i := range list {
		f := i.Fault
		if other := objectWord(i.Kind, i.Name); other != object { // the field would be taken for one of the object's
			f.Field, f.Problem = "", other+", "+f.Field+": "+f.Problem
		}
		r.Faults = append(r.Faults, f)
	}
	return r
}
