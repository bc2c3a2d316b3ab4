package api

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"tunneldirector/affinity"
)

// decode reads one JSON object strictly: no unknown and no repeated fields, valid UTF-8, nothing behind it.
func decode(data []byte, into any) *Problem {
	err := json.Unmarshal(data, into, json.RejectUnknownMembers(true))
	switch {
	case err == nil && string(bytes.TrimSpace(data)) == "null":
		return problem(http.StatusUnprocessableEntity, kindInvalid, "", FieldError{Problem: "is null", Remedy: "one JSON object"})
	case err == nil:
		return nil
	}
	p := jsonProblem(err, data, into)
	if p.Status == http.StatusUnprocessableEntity {
		p.Errors = append(p.Errors, laterErrors(data, into, p.Errors)...)
	}
	return p
}

const maxFaults = 20 // of fields, in one answer

// laterErrors are what is wrong with an object's other fields: decoding ends with the first one.
func laterErrors(data []byte, into any, found []FieldError) (more []FieldError) {
	d := jsontext.NewDecoder(bytes.NewReader(data))
	if t, err := d.ReadToken(); err != nil || t.Kind() != '{' {
		return nil
	}
	for d.PeekKind() == '"' && len(found)+len(more) < maxFaults {
		name, err := d.ReadValue()
		if err != nil {
			return more
		}
		name = slices.Clone(name)
		value, err := d.ReadValue()
		if err != nil {
			return more
		}
		one := slices.Concat([]byte{'{'}, name, []byte{':'}, value, []byte{'}'})
		fresh := reflect.New(reflect.TypeOf(into).Elem()).Interface()
		if err := json.Unmarshal(one, fresh, json.RejectUnknownMembers(true)); err != nil {
			for _, e := range jsonProblem(err, one, into).Errors {
				if !slices.Contains(found, e) {
					more = append(more, e)
				}
			}
		}
	}
	return more
}

func jsonProblem(err error, data []byte, into any) *Problem {
	var semantic *json.SemanticError
	if errors.As(err, &semantic) {
		field := fieldPath(semantic.JSONPointer)
		if errors.Is(err, json.ErrUnknownName) {
			return problem(http.StatusUnprocessableEntity, kindInvalid, "", unknownField(field, into))
		}
		value := clip(string(semantic.JSONValue))
		what := "is " + kindWord(semantic.JSONKind)
		if semantic.JSONKind == '0' && isWhole(semantic.GoType) {
			what = numberWords(string(semantic.JSONValue))
		}
		return problem(http.StatusUnprocessableEntity, kindInvalid, "", FieldError{field, value, what, "expected " + typeWord(semantic.GoType)})
	}
	var syntactic *jsontext.SyntacticError
	if errors.As(err, &syntactic) {
		if errors.Is(err, jsontext.ErrDuplicateName) {
			return problem(http.StatusBadRequest, kindMalformed, "not well-formed JSON",
				FieldError{fieldPath(syntactic.JSONPointer), "", "stands twice", "once is enough"})
		}
		at := min(int(max(syntactic.ByteOffset, 0)), len(data))
		return problem(http.StatusBadRequest, kindMalformed, "not well-formed JSON", FieldError{
			Field: fieldPath(syntactic.JSONPointer), Value: clip(string(data[at:min(at+20, len(data))])),
			Problem: fmt.Sprintf("at byte %d: %s", syntactic.ByteOffset, syntaxWords(syntactic)), Remedy: "one JSON object",
		})
	}
	return problem(http.StatusBadRequest, kindMalformed, "not well-formed JSON", FieldError{Problem: err.Error(), Remedy: "one JSON object"})
}

func isWhole(t reflect.Type) bool {
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t != nil && t.Kind() >= reflect.Int && t.Kind() <= reflect.Uint64
}

// numberWords says what is wrong with a number where a whole one is wanted.
func numberWords(s string) string {
	switch {
	case strings.ContainsAny(s, "eE"):
		return "is written with an exponent"
	case strings.Contains(s, "."):
		return "is not whole"
	case strings.HasPrefix(s, "-"):
		return "is negative"
	}
	return "is out of range"
}

func syntaxWords(e *jsontext.SyntacticError) string {
	if e.Err == nil {
		return "not JSON"
	}
	return strings.TrimPrefix(e.Err.Error(), "jsontext: ")
}

// unknownField names the nearest known field, if one is near.
func unknownField(field string, into any) FieldError {
	known := fieldNames(reflect.TypeOf(into).Elem())
	if told := fieldNames(reflect.TypeFor[TunnelState]()); pushed(into) && slices.Contains(told, field) {
		return FieldError{Field: field, Problem: "is told by the director, not pushed", Remedy: "leave it out"}
	}
	best, distance := "", 1+len(field)/2
	for _, k := range known {
		if d := editDistance(field, k); d < distance {
			best, distance = k, d
		}
	}
	if best != "" {
		return FieldError{Field: field, Problem: "is not a known field", Remedy: "did you mean " + best + "?"}
	}
	return FieldError{Field: field, Problem: "is not a known field", Remedy: "known are " + strings.Join(known, ", ")}
}

// pushed tells whether a tunnel is being read.
func pushed(into any) bool {
	_, ok := into.(interface {
		record() (*affinity.Tunnel, faults)
	})
	return ok
}

// fieldNames are the JSON names of a struct's fields, those of embedded structs included.
func fieldNames(t reflect.Type) []string {
	var out []string
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "":
			out = append(out, fieldNames(f.Type)...)
		case name != "" && name != "-":
			out = append(out, name)
		}
	}
	return out
}

// fieldPath writes a JSON pointer as people do: /subnets/0 is subnets[0].
func fieldPath(p jsontext.Pointer) string {
	var b strings.Builder
	for token := range p.Tokens() {
		_, err := strconv.ParseUint(token, 10, 32)
		switch {
		case err == nil && b.Len() > 0:
			b.WriteString("[" + token + "]")
		case b.Len() > 0:
			b.WriteString("." + token)
		default:
			b.WriteString(token)
		}
	}
	return clip(b.String())
}

func kindWord(k jsontext.Kind) string {
	switch k {
	case 'n':
		return "null"
	case 't', 'f':
		return "true or false"
	case '"':
		return "a string"
	case '0':
		return "a number"
	case '{', '}':
		return "an object"
	case '[', ']':
		return "a list"
	}
	return "of the wrong type"
}

func typeWord(t reflect.Type) string {
	if t == nil {
		return "something else"
	}
	switch t.Kind() {
	case reflect.Pointer:
		return typeWord(t.Elem())
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return fmt.Sprintf("a whole number from 0 to %d", ^uint64(0)>>(64-t.Bits()))
	case reflect.Int, reflect.Int64:
		return "a whole number"
	case reflect.Float64:
		return "a number"
	case reflect.Slice:
		return "a list"
	case reflect.Map, reflect.Struct:
		return "an object"
	}
	return "something else"
}

// editDistance is Levenshtein's, by bytes; long strings count as far away.
func editDistance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return max(len(a), len(b))
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
