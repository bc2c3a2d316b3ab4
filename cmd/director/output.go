package main

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// show prints an answer: as JSON, or as people like it.
func (t *talk) show(v any, people func(*page)) error {
	if t.JSON {
		return t.jsonLine(v)
	}
	p := &page{w: t.Stdout}
	people(p)
	return p.err
}

// jsonLine prints one JSON object and a newline.
func (t *talk) jsonLine(v any) error {
	enc := json.NewEncoder(t.Stdout)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("print the answer: %w", err)
	}
	return nil
}

// note tells people something beside the answer.
func (t *talk) note(format string, args ...any) {
	if !t.JSON {
		fmt.Fprintf(t.Stderr, format+"\n", args...)
	}
}

// A page is text for people. The first error stays.
type page struct {
	w   io.Writer
	err error
}

func (p *page) line(format string, args ...any) { p.text(fmt.Sprintf(format, args...) + "\n") }

func (p *page) text(s string) {
	if p.err == nil {
		if _, err := io.WriteString(p.w, s); err != nil {
			p.err = fmt.Errorf("print the answer: %w", err)
		}
	}
}

// A column is a table's; numbers stand right.
type column struct {
	name  string
	right bool
}

// table prints columns without frames, so that it can be cut and searched.
func (p *page) table(columns []column, rows [][]string) {
	w := table.NewWriter()
	style := table.StyleDefault
	style.Options = table.OptionsNoBordersAndSeparators
	style.Box.PaddingLeft, style.Box.PaddingRight = "", "  "
	style.Format.Header = text.FormatUpper
	w.SetStyle(style)
	w.SuppressTrailingSpaces()
	header := make(table.Row, len(columns))
	var configs []table.ColumnConfig
	for i, c := range columns {
		header[i] = c.name
		if c.right {
			configs = append(configs, table.ColumnConfig{Number: i + 1, Align: text.AlignRight, AlignHeader: text.AlignRight})
		}
	}
	w.SetColumnConfigs(configs)
	w.AppendHeader(header)
	for _, r := range rows {
		row := make(table.Row, len(r))
		for i, cell := range r {
			row[i] = orDash(cell)
		}
		w.AppendRow(row)
	}
	p.text(w.Render() + "\n")
}

// facts prints names and values; a value that is empty is left out.
func (p *page) facts(pairs [][2]string) {
	width := 0
	for _, x := range pairs {
		if x[1] != "" {
			width = max(width, len(x[0]))
		}
	}
	for _, x := range pairs {
		if x[1] != "" {
			p.line("%-*s  %s", width, x[0], x[1])
		}
	}
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
