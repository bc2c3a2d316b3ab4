package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"tunneldirector/cmd/console"
)

// TestREADME: what README.md says that a test holds, a test holds: each that it names is there.
func TestREADME(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("../../integration/guest/*_test.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("no tests to hold it against: %v", err)
	}
	var sources strings.Builder
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		sources.Write(b)
	}
	_, rest, found := strings.Cut(string(text), "\n| tunnel |")
	table, _, _ := strings.Cut(rest, "\n\n")
	cells := regexp.MustCompile(`(Test\w+)(?: \(([^)]*)\))?`).FindAllStringSubmatch(table, -1)
	if !found || len(cells) < 20 {
		t.Fatalf("the table of tunnels names %d tests", len(cells))
	}
	_, rows, _ := strings.Cut(table, "|---|\n")
	for row := range strings.Lines(rows) {
		for _, cell := range strings.Split(strings.Trim(row, "| \n"), " | ")[1:] {
			if !strings.Contains(cell, "Test") && cell != "no: refused" {
				t.Errorf("the cell %q names no test", cell)
			}
		}
	}
	for _, c := range cells {
		if !strings.Contains(sources.String(), "func "+c[1]+"(") {
			t.Errorf("%s is not a test of integration/guest", c[1])
		}
		for part := range strings.SplitSeq(c[2], ", ") {
			if !strings.Contains(sources.String(), `"`+part+`"`) && part != "" {
				t.Errorf("%s has no part %q", c[1], part)
			}
		}
	}
}

// What adopt reaches is held by the tests that the table names, each where it says.
func TestREADMEOfAdopt(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "\n| terminator |")
	table, _, _ := strings.Cut(rest, "\n\n")
	rows := regexp.MustCompile(`\| ((?:Test\w+(?:, )?)+) of ([\w/]+) \|`).FindAllStringSubmatch(table, -1)
	if !found || len(rows) != strings.Count(table, "\n")-1 {
		t.Fatalf("of %d rows %d name a test", strings.Count(table, "\n")-1, len(rows))
	}
	for _, row := range rows {
		files, err := filepath.Glob("../../" + row[2] + "/*_test.go")
		if err != nil {
			t.Fatal(err)
		}
		var sources strings.Builder
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			sources.Write(b)
		}
		for name := range strings.SplitSeq(row[1], ", ") {
			if !strings.Contains(sources.String(), "func "+name+"(") {
				t.Errorf("%s is not a test of %s", name, row[2])
			}
		}
	}
}

// The command lines of README.md are command lines of director: the commands are there, and so are the flags.
func TestREADMECommands(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	app := newApp(&console.Env{Getenv: func(string) string { return "" }})
	lines := regexp.MustCompile(`(?m)^    director (.*?)(?:\s+#.*)?$`).FindAllStringSubmatch(string(text), -1)
	if len(lines) < 15 {
		t.Fatalf("%d command lines", len(lines))
	}
	for _, l := range lines {
		a := arranger{root: app.Flags, subcommands: app.Commands}
		args := strings.Fields(l[1])
		for i := 0; i < len(args); i++ {
			if strings.HasPrefix(args[i], "-") {
				name := strings.TrimLeft(args[i], "-")
				if findFlag(a.commandFlags(), name) == nil && findFlag(a.root, name) == nil {
					t.Errorf("director %s: there is no flag %s", l[1], args[i])
				}
				i += a.flag(args[i], args[i+1:])
				continue
			}
			a.word(args[i])
		}
		if a.command == nil || len(a.command.Subcommands) > 0 {
			t.Errorf("director %s: there is no such command", l[1])
		}
	}
}
