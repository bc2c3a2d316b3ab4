package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"unicode/utf8"

	"tunneldirector/director/api"
)

// maxLine is the longest line of a file of tunnels, as the API has it.
const maxLine = 1 << 20

// A lineFault is what is wrong with a line of a file of tunnels.
type lineFault struct {
	Line    int    `json:"line"`
	Column  int    `json:"column,omitempty"` // from 1, in characters
	ID      string `json:"id,omitempty"`
	Field   string `json:"field,omitempty"`
	Value   string `json:"value,omitempty"`
	Problem string `json:"problem"`
	Remedy  string `json:"remedy,omitempty"`
}

func (f lineFault) Error() string {
	e := api.FieldError{Field: f.Field, Value: f.Value, Problem: f.Problem, Remedy: f.Remedy}
	s := e.String()
	if f.Column > 0 {
		return fmt.Sprintf("line %d, column %d: %s", f.Line, f.Column, s)
	}
	return fmt.Sprintf("line %d: %s", f.Line, s)
}

// An entry is a line of a file of tunnels: an item, or what is wrong with it.
type entry struct {
	line   int
	item   api.BatchItem
	faults []lineFault
}

// A lineParser reads one line; it returns nothing for one that holds no entry.
type lineParser func(line int, data []byte) (entry, bool)

// entries reads a file of tunnels in constant memory. The error is the reader's, or that of a file that cannot be read
// at all; it ends the file.
func entries(r io.Reader, format string) iter.Seq2[entry, error] {
	return func(yield func(entry, error) bool) {
		lines := lineReader{r: bufio.NewReaderSize(r, 64<<10)}
		parse := lineParser(parseNDJSON)
		if format == formatCSV {
			parse = new(csvParser).parse
		}
		for {
			data, whole, err := lines.next()
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				yield(entry{}, fmt.Errorf("read line %d: %w", lines.n, err))
				return
			}
			if lines.n == 1 {
				data = bytes.TrimPrefix(data, []byte("\ufeff")) // spreadsheets begin with one
			}
			e, ok := entry{line: lines.n}, true
			switch {
			case !whole:
				e.faults = []lineFault{{Line: lines.n, Problem: fmt.Sprintf("is longer than %d bytes", maxLine), Remedy: "one tunnel a line"}}
			case !utf8.Valid(data):
				e.faults = []lineFault{{Line: lines.n, Column: badByte(data), Problem: "is not UTF-8", Remedy: "save the file as UTF-8"}}
			default:
				e, ok = parse(lines.n, data)
			}
			if ok && !yield(e, nil) {
				return
			}
		}
	}
}

func badByte(data []byte) int {
	column := 1
	for len(data) > 0 {
		r, n := utf8.DecodeRune(data)
		if r == utf8.RuneError && n == 1 {
			break
		}
		data = data[n:]
		column++
	}
	return column
}

// columnAt is the column, in characters from 1, of a byte offset.
func columnAt(data []byte, offset int) int {
	return utf8.RuneCount(data[:max(0, min(offset, len(data)))]) + 1
}

// A lineReader splits into lines; of one that is too long it gives the beginning.
type lineReader struct {
	r   *bufio.Reader
	n   int // of the line that next returned
	buf []byte
}

func (l *lineReader) next() (data []byte, whole bool, err error) {
	l.buf, whole = l.buf[:0], true
	for {
		part, err := l.r.ReadSlice('\n')
		if room := maxLine + 1 - len(l.buf); len(part) > room {
			part, whole = part[:room], false
		}
		l.buf = append(l.buf, part...)
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err == nil, errors.Is(err, io.EOF) && len(l.buf) > 0:
			l.n++
			return bytes.TrimRight(l.buf, "\r\n"), whole, nil
		default:
			if !errors.Is(err, io.EOF) {
				l.n++
			}
			return nil, false, err
		}
	}
}
