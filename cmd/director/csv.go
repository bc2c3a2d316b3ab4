package main

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"tunneldirector/director/api"
)

// csvColumns are the columns, in the order of an export. They are named as the API names fields.
var csvColumns = []string{"id", "service", "endpoints", "subnets", "bandwidth_bps", "group", "tenant", "state", "labels", "separate_from", "generation"}

// A csvParser reads lines of CSV whose first one names the columns, in any order. A cell does not go over a line's end, so
// that a forgotten quote costs one line. One goroutine owns it.
type csvParser struct {
	header  []string
	useless bool // the header was refused: no line can be read
	buf     *bufio.Reader
	src     bytes.Reader
}

func (p *csvParser) parse(line int, data []byte) (entry, bool) {
	e := entry{line: line}
	if p.useless || len(bytes.TrimSpace(data)) == 0 {
		return e, false
	}
	cells, columns, fault := p.cells(data)
	switch {
	case fault != nil:
		fault.Line = line
		e.faults = []lineFault{*fault}
		p.useless = p.header == nil
	case p.header == nil:
		e.faults = p.readHeader(line, cells, columns)
		p.useless = len(e.faults) > 0
		return e, p.useless
	default:
		p.record(&e, cells, columns)
	}
	return e, true
}

// cells splits a line; columns are where the cells begin, in characters from 1.
func (p *csvParser) cells(data []byte) (cells []string, columns []int, fault *lineFault) {
	p.src.Reset(data)
	if p.buf == nil {
		p.buf = bufio.NewReaderSize(nil, 8<<10)
	}
	p.buf.Reset(&p.src)
	r := csv.NewReader(p.buf) // takes the buffer as it is
	r.FieldsPerRecord = -1
	cells, err := r.Read()
	var perr *csv.ParseError
	switch {
	case errors.As(err, &perr):
		problem := "a quote stands inside a cell"
		if errors.Is(err, csv.ErrQuote) {
			problem = "a quoted cell is not closed on its line, or something follows the quote"
		}
		return nil, nil, &lineFault{Column: columnAt(data, perr.Column-1), Problem: problem, Remedy: `write "like ""this"""`}
	case err != nil && !errors.Is(err, io.EOF):
		return nil, nil, &lineFault{Problem: err.Error()}
	}
	for i := range cells {
		_, at := r.FieldPos(i)
		columns = append(columns, columnAt(data, at-1))
	}
	return cells, columns, nil
}

func (p *csvParser) readHeader(line int, cells []string, columns []int) (faults []lineFault) {
	for i, c := range cells {
		name := strings.ToLower(strings.TrimSpace(c))
		f := lineFault{Line: line, Column: columns[i], Field: "header", Value: clip(name), Remedy: "the first line names columns out of " + strings.Join(csvColumns, ",")}
		switch {
		case !slices.Contains(csvColumns, name):
			f.Problem = "is not a column"
			faults = append(faults, f)
		case slices.Contains(p.header, name):
			f.Problem = "stands twice"
			faults = append(faults, f)
		}
		p.header = append(p.header, name)
	}
	for _, needed := range []string{"id", "service"} {
		if len(faults) == 0 && !slices.Contains(p.header, needed) {
			faults = append(faults, lineFault{Line: line, Field: "header", Problem: "lacks the column " + needed, Remedy: "the first line names the columns"})
		}
	}
	return faults
}

func (p *csvParser) record(e *entry, cells []string, columns []int) {
	if len(cells) > len(p.header) {
		e.faults = append(e.faults, lineFault{Line: e.line, Column: columns[len(p.header)],
			Problem: fmt.Sprintf("has %d cells, the header has %d", len(cells), len(p.header)), Remedy: `lists are separated by ";", not ","; or quote the cell`})
		return
	}
	if len(cells) < len(p.header) {
		e.faults = append(e.faults, lineFault{Line: e.line, Problem: fmt.Sprintf("has %d cells, the header has %d", len(cells), len(p.header)), Remedy: "an empty cell is nothing between two commas"})
		return
	}
	for i, c := range cells {
		if err := setCell(&e.item.Tunnel, p.header[i], strings.TrimSpace(c)); err != nil {
			e.faults = append(e.faults, lineFault{Line: e.line, Column: columns[i], Field: p.header[i], Value: clip(c), Problem: err.problem, Remedy: err.remedy})
		}
	}
	if e.item.ID == "" && len(e.faults) == 0 {
		e.faults = []lineFault{{Line: e.line, Column: columns[slices.Index(p.header, "id")], Field: "id", Problem: "is empty", Remedy: "name the tunnel"}}
	}
	for i := range e.faults {
		e.faults[i].ID = e.item.ID
	}
}

type cellFault struct{ problem, remedy string }

func setCell(t *api.Tunnel, column, cell string) *cellFault {
	switch column {
	case "id":
		t.ID = cell
	case "service":
		t.Service = cell
	case "endpoints":
		t.Endpoints = splitList(cell)
	case "subnets":
		t.Subnets = splitList(cell)
	case "bandwidth_bps":
		if cell == "" {
			return nil
		}
		n, err := parseBits(cell)
		if err != nil {
			return &cellFault{"is not a rate", "bit/s: 2000000, 2M or 1.5G"}
		}
		t.Bandwidth = n
	case "group":
		t.Group = cell
	case "tenant":
		t.Tenant = cell
	case "state":
		t.State = cell
	case "labels":
		return setLabels(t, cell)
	case "separate_from":
		t.SeparateFrom = splitList(cell)
	case "generation":
		if cell == "" {
			return nil
		}
		n, err := strconv.ParseUint(cell, 10, 64)
		if err != nil {
			return &cellFault{"is not a whole number", "0 to 18446744073709551615"}
		}
		t.Generation = n
	}
	return nil
}

// setLabels reads key=value;key=value, or a JSON object.
func setLabels(t *api.Tunnel, cell string) *cellFault {
	if cell == "" {
		return nil
	}
	labels := map[string]string{}
	if strings.HasPrefix(cell, "{") {
		if err := json.Unmarshal([]byte(cell), &labels); err != nil {
			return &cellFault{"is not a JSON object of strings", "key=value;key=value"}
		}
		t.Labels = labels
		return nil
	}
	for _, pair := range splitList(cell) {
		k, v, ok := strings.Cut(pair, "=")
		if !ok || k == "" {
			return &cellFault{fmt.Sprintf("%q is not key=value", clip(pair)), `key=value;key=value, or {"key":"value"} where a value holds spaces or semicolons`}
		}
		if _, twice := labels[k]; twice {
			return &cellFault{fmt.Sprintf("label %q stands twice", clip(k)), "once is enough"}
		}
		labels[k] = v
	}
	t.Labels = labels
	return nil
}

func splitList(cell string) []string {
	out := strings.FieldsFunc(cell, func(r rune) bool { return r == ';' || r == ' ' || r == '\t' })
	if len(out) == 0 {
		return nil
	}
	return out
}

// csvCells are a tunnel's cells, in the order of csvColumns.
func csvCells(t *api.Tunnel) []string {
	return []string{t.ID, t.Service, strings.Join(t.Endpoints, ";"), strings.Join(t.Subnets, ";"), unlessZero(t.Bandwidth), t.Group, t.Tenant,
		t.State, labelCell(t.Labels), strings.Join(t.SeparateFrom, ";"), unlessZero(t.Generation)}
}

func unlessZero(n uint64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatUint(n, 10)
}

// labelCell writes labels in order of their keys.
func labelCell(labels map[string]string) string {
	pairs, plain := sortedLabels(labels), true
	for k, v := range labels {
		plain = plain && !strings.ContainsAny(k+v, "; \t{") && !strings.Contains(k, "=") && strings.TrimSpace(v) == v
	}
	if plain {
		return strings.Join(pairs, ";")
	}
	data, _ := json.Marshal(labels) // strings encode
	return string(data)
}

func sortedLabels(labels map[string]string) []string {
	out := make([]string, 0, len(labels))
	for k, v := range labels {
		out = append(out, k+"="+v)
	}
	slices.Sort(out)
	return out
}
