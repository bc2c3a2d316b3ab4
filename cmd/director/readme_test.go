package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
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
