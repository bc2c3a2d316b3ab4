package console

import (
	"fmt"
	"io"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// A Page is text for people. The first error stays.
type Page struct {
	W   io.Writer
	Err error // of writing
}

// Line prints a line.
func (p *Page) Line(format string, args ...any) { p.text(fmt.Sprintf(format, args...) + "\n") }

func (p *Page) text(s string) {
	if p.Err == nil {
		if _, err := io.WriteString(p.W, s); err != nil {
			p.Err = fmt.Errorf("print the answer: %w", err)
		}
	}
}

// A Column is a table's; numbers stand right.
type Column struct {
	Name  string
	Right bool
}

// Table prints columns without frames, so that it can be cut and searched. A cell that is empty is a dash.
func (p *Page) Table(columns []Column, rows [][]string) {
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
		header[i] = c.Name
		if c.Right {
			configs = append(configs, table.ColumnConfig{Number: i + 1, Align: text.AlignRight, AlignHeader: text.AlignRight})
		}
	}
	w.SetColumnConfigs(configs)
	w.AppendHeader(header)
	for _, r := range rows {
		row := make(table.Row, len(r))
		for i, cell := range r {
			row[i] = OrDash(cell)
		}
		w.AppendRow(row)
	}
	p.text(w.Render() + "\n")
}

// Facts prints names and values; a value that is empty is left out.
func (p *Page) Facts(pairs [][2]string) {
	width := 0
	for _, x := range pairs {
		if x[1] != "" {
			width = max(width, len(x[0]))
		}
	}
	for _, x := range pairs {
		if x[1] != "" {
			p.Line("%-*s  %s", width, x[0], x[1])
		}
	}
}

// OrDash is a text, or a dash for none.
func OrDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
