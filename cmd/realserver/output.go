package main

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// show prints an answer: as one JSON value, or as people like it.
func (env *Env) show(v any, people func(*page)) error {
	p := &page{w: env.Stdout}
	if env.JSON {
		enc := json.NewEncoder(env.Stdout)
		enc.SetEscapeHTML(false)
		p.err = enc.Encode(v)
	} else {
		people(p)
	}
	if p.err != nil {
		return fmt.Errorf("print the answer: %w", p.err)
	}
	return nil
}

// A page is text for people. The first error stays.
type page struct {
	w   io.Writer
	err error
}

func (p *page) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", args...)
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
	var header table.Row
	var configs []table.ColumnConfig
	for i, c := range columns {
		header = append(header, c.name)
		if c.right {
			configs = append(configs, table.ColumnConfig{Number: i + 1, Align: text.AlignRight, AlignHeader: text.AlignRight})
		}
	}
	w.SetColumnConfigs(configs)
	w.AppendHeader(header)
	for _, r := range rows {
		var row table.Row
		for _, cell := range r {
			if cell == "" {
				cell = "-"
			}
			row = append(row, cell)
		}
		w.AppendRow(row)
	}
	p.line("%s", w.Render())
}

// number writes 1234567 as 1,234,567.
func number[T ~int | ~uint32](n T) string { return humanize.Comma(int64(n)) }

// some writes a number of things: 1 change, 2 changes.
func some(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return number(n) + " " + thing + "s"
}

// ago writes how long ago something was.
func ago(now, at time.Time) string {
	d := now.Sub(at)
	switch {
	case at.IsZero():
		return ""
	case d < 0:
		return "in the future"
	case d < time.Second:
		return "just now"
	case d < time.Minute:
		return fmt.Sprintf("%ds ago", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm %ds ago", d/time.Minute, d%time.Minute/time.Second)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh %dm ago", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%dd %dh ago", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
}

func octets(n uint64) string { return humanize.IBytes(n) }
