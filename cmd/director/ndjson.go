package main

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// The formats of files of tunnels.
const (
	formatNDJSON = "ndjson"
	formatCSV    = "csv"
)

// parseNDJSON reads a tunnel as the API has it, or {"delete":"id"}. Strict: what is not known is a fault.
func parseNDJSON(line int, data []byte) (entry, bool) {
	e := entry{line: line}
	if len(bytes.TrimSpace(data)) == 0 {
		return e, false
	}
	if err := json.Unmarshal(data, &e.item, json.RejectUnknownMembers(true)); err != nil {
		f := jsonFault(err, data)
		f.Line, f.ID = line, e.item.ID
		e.faults = []lineFault{f}
		return e, true
	}
	if e.item.ID == "" && e.item.Delete == "" {
		e.faults = []lineFault{{Line: line, Field: "id", Problem: "is missing", Remedy: "name the tunnel"}}
	}
	return e, true
}

func jsonFault(err error, data []byte) lineFault {
	var semantic *json.SemanticError
	var syntactic *jsontext.SyntacticError
	switch {
	case errors.As(err, &semantic):
		f := lineFault{Column: columnAt(data, int(semantic.ByteOffset)), Field: pointerWords(semantic.JSONPointer)}
		if errors.Is(err, json.ErrUnknownName) {
			f.Problem, f.Remedy = "is not a known field", "known are "+strings.Join(csvColumns, ", ")
			return f
		}
		f.Value = clip(string(semantic.JSONValue))
		f.Problem, f.Remedy = "has the wrong type", fmt.Sprintf("expected %s", semantic.GoType)
		return f
	case errors.As(err, &syntactic):
		f := lineFault{Column: columnAt(data, int(syntactic.ByteOffset)), Problem: "not well-formed JSON", Remedy: "one JSON object a line"}
		if syntactic.Err != nil {
			f.Problem += ": " + strings.TrimPrefix(syntactic.Err.Error(), "jsontext: ")
		}
		return f
	}
	return lineFault{Column: 1, Problem: "not well-formed JSON: " + err.Error(), Remedy: "one JSON object a line"}
}

// pointerWords writes /subnets/0 as subnets[0].
func pointerWords(p jsontext.Pointer) string {
	var b strings.Builder
	for token := range p.Tokens() {
		switch {
		case b.Len() > 0 && strings.Trim(token, "0123456789") == "":
			b.WriteString("[" + token + "]")
		case b.Len() > 0:
			b.WriteString("." + token)
		default:
			b.WriteString(token)
		}
	}
	return clip(b.String())
}

// clip keeps what is repeated of a file small.
func clip(s string) string {
	if r := []rune(s); len(r) > 60 {
		return string(r[:60]) + "..."
	}
	return s
}
