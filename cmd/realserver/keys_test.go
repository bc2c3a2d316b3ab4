package main

import "reflect"

// keysOf are the keys of structs that are read.
func keysOf(list ...any) (out []string) {
	for _, x := range list {
		t := reflect.TypeOf(x)
		for i := range t.NumField() {
			if tag := t.Field(i).Tag.Get("yaml"); tag != "" {
				out = append(out, tag)
			}
		}
	}
	return out
}
