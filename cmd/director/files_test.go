package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tunneldirector/director/api"
)

// readAll reads a file of tunnels; faults are their texts.
func readAll(t testing.TB, format, text string) (items []api.BatchItem, faults []string) {
	t.Helper()
	for e, err := range entries(strings.NewReader(text), format) {
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range e.faults {
			faults = append(faults, f.Error())
		}
		if len(e.faults) == 0 {
			items = append(items, e.item)
		}
	}
	return items, faults
}

func TestFilesOfTunnels(t *testing.T) {
	full := api.BatchItem{Tunnel: api.Tunnel{ID: "a", Service: "ipsec", Endpoints: []string{"203.0.113.5", "2001:db8::5"}, Subnets: []string{"100.64.1.0/24", "100.64.2.0/24"},
		Bandwidth: 2_000_000, Group: "g", Tenant: "t", State: "up", Labels: map[string]string{"k": "v", "l": ""}, SeparateFrom: []string{"b", "c"}, Generation: 7}}
	small := api.BatchItem{Tunnel: api.Tunnel{ID: "b", Service: "ipsec"}}
	header := strings.Join(csvColumns, ",") + "\n"
	tests := []struct {
		name, format, text string
		items              []api.BatchItem
		faults             []string
	}{
		{"empty", "csv", "", nil, nil},
		{"header alone", "csv", header, nil, nil},
		{"all columns", "csv", header + "a,ipsec,203.0.113.5;2001:db8::5,100.64.1.0/24 100.64.2.0/24,2M,g,t,up,k=v;l=,b;c,7\n", []api.BatchItem{full}, nil},
		{"JSON labels, CRLF, BOM, spaces", "csv", "\ufeffService, ID ,labels\r\n ipsec ,b,\r\n\r\nipsec,c,\"{\"\"k\"\":\"\"x; y\"\"}\"",
			[]api.BatchItem{small, {Tunnel: api.Tunnel{ID: "c", Service: "ipsec", Labels: map[string]string{"k": "x; y"}}}}, nil},
		{"unknown column", "csv", "id,service,colour\nb,ipsec,red\n", nil, []string{`line 1, column 12: header "colour": is not a column; the first line names columns out of ` + strings.Join(csvColumns, ",")}},
		{"column twice", "csv", "id,service,id\nb,ipsec,c\n", nil, []string{`line 1, column 12: header "id": stands twice; the first line names columns out of ` + strings.Join(csvColumns, ",")}},
		{"no id column", "csv", "service\nipsec\n", nil, []string{"line 1: header: lacks the column id; the first line names the columns"}},
		{"too many cells", "csv", "id,service\nö,ipsec,x\nb,ipsec\n", []api.BatchItem{small}, []string{`line 2, column 9: has 3 cells, the header has 2; lists are separated by ";", not ","; or quote the cell`}},
		{"too few cells", "csv", "id,service\nb\nb,ipsec\n", []api.BatchItem{small}, []string{"line 2: has 1 cells, the header has 2; an empty cell is nothing between two commas"}},
		{"an open quote costs one line", "csv", "id,service\n\"a,ipsec\nb,ipsec\n", []api.BatchItem{small}, []string{`line 2, column 9: a quoted cell is not closed on its line, or something follows the quote; write "like ""this"""`}},
		{"a quote inside", "csv", "id,service\na\"a,ipsec\n", nil, []string{`line 2, column 2: a quote stands inside a cell; write "like ""this"""`}},
		{"several faults in a line", "csv", "id,service,bandwidth_bps,labels,generation\na,ipsec,fast,x,-1\n", nil, []string{
			`line 2, column 9: bandwidth_bps "fast": is not a rate; bit/s: 2000000, 2M or 1.5G`,
			`line 2, column 14: labels "x": "x" is not key=value; key=value;key=value, or {"key":"value"} where a value holds spaces or semicolons`,
			`line 2, column 16: generation "-1": is not a whole number; 0 to 18446744073709551615`}},
		{"no id", "csv", "service,id\nipsec,\n", nil, []string{"line 2, column 7: id: is empty; name the tunnel"}},
		{"label twice", "csv", "id,service,labels\na,ipsec,k=1;k=2\n", nil, []string{`line 2, column 9: labels "k=1;k=2": label "k" stands twice; once is enough`}},
		{"not UTF-8", "csv", "id,service\nö\xff,ipsec\nb,ipsec\n", []api.BatchItem{small}, []string{"line 2, column 2: is not UTF-8; save the file as UTF-8"}},
		{"overlong", "csv", "id,service\n" + strings.Repeat("x", maxLine+1) + "\nb,ipsec\n", []api.BatchItem{small}, []string{"line 2: is longer than 1048576 bytes; one tunnel a line"}},

		{"ndjson", "ndjson", "\ufeff" + `{"id":"b","service":"ipsec"}` + "\r\n\n" + `{"delete":"c","generation":3}`,
			[]api.BatchItem{small, {Delete: "c", Tunnel: api.Tunnel{Generation: 3}}}, nil},
		{"not JSON", "ndjson", "{\"id\":\"b\",\"service\":\"ipsec\"}\nid,service\n", []api.BatchItem{small}, []string{"line 2, column 1: not well-formed JSON: invalid character 'i' at start of value; one JSON object a line"}},
		{"cut off", "ndjson", `{"id":"b","ser`, nil, []string{"line 1, column 15: not well-formed JSON: unexpected EOF; one JSON object a line"}},
		{"unknown field", "ndjson", `{"id":"ö","servic":"ipsec"}`, nil, []string{"line 1, column 11: servic: is not a known field; known are " + strings.Join(csvColumns, ", ")}},
		{"wrong type", "ndjson", `{"id":"b","subnets":["x",7]}`, nil, []string{`line 1, column 26: subnets[1]: has the wrong type; expected string`}},
		{"no id", "ndjson", `{"service":"ipsec"}`, nil, []string{"line 1: id: is missing; name the tunnel"}},
		{"twice", "ndjson", `{"id":"a","id":"b"}`, nil, []string{`line 1, column 11: not well-formed JSON: duplicate object member name; one JSON object a line`}},
		{"two objects", "ndjson", `{"id":"a"}{"id":"b"}`, nil, []string{`line 1, column 11: not well-formed JSON: invalid character '{' after top-level value; one JSON object a line`}},
	}
	for _, tt := range tests {
		t.Run(tt.format+" "+tt.name, func(t *testing.T) {
			items, faults := readAll(t, tt.format, tt.text)
			if d := cmp.Diff(tt.items, items); d != "" {
				t.Errorf("items (-want +got):\n%s", d)
			}
			if d := cmp.Diff(tt.faults, faults); d != "" {
				t.Errorf("faults (-want +got):\n%s", d)
			}
		})
	}
}

func TestReadErrorsEndTheFile(t *testing.T) {
	broken := errors.New("broken")
	var got error
	n := 0
	for _, err := range entries(io.MultiReader(strings.NewReader("id,service\na,ipsec\nb,ip"), errorReader{broken}), formatCSV) {
		if got = err; err == nil {
			n++
		}
	}
	if !errors.Is(got, broken) || n != 1 {
		t.Errorf("%d entries, then %v", n, got)
	}
}

type errorReader struct{ err error }

func (e errorReader) Read([]byte) (int, error) { return 0, e.err }

// Whatever the bytes are, reading ends, each fault has its line, and what was read is written and read again the same.
func FuzzFilesOfTunnels(f *testing.F) {
	header := strings.Join(csvColumns, ",") + "\n"
	for _, s := range []string{"", header, header + "a,ipsec,203.0.113.5,100.64.1.0/24,2M,g,t,up,k=v,b,7\n", header + "\"a\nb,ipsec\n", "id,service\na,b,c\n", "\ufeffid,service\r\na,b\r\n",
		`{"id":"a","service":"s","labels":{"k":"v; w","x":"{"}}`, "{\"delete\":\"a\"}\n{\"id\":1}\n", "\xff\n{", "id,service,labels\na,b,\"{\"\"k\"\":\"\"=;\"\"}\"\n"} {
		f.Add(s, true)
		f.Add(s, false)
	}
	f.Fuzz(func(t *testing.T, text string, asCSV bool) {
		format := formatNDJSON
		if asCSV {
			format = formatCSV
		}
		lines, last := strings.Count(text, "\n")+1, 0
		for e, err := range entries(strings.NewReader(text), format) {
			if err != nil {
				t.Fatal(err)
			}
			if e.line <= last || e.line > lines {
				t.Fatalf("line %d after %d of %d", e.line, last, lines)
			}
			last = e.line
			for _, f := range e.faults {
				if f.Line != e.line || f.Problem == "" || f.Column < 0 {
					t.Fatalf("fault %+v in line %d", f, e.line)
				}
			}
			if len(e.faults) == 0 && e.item.Delete == "" && printable(&e.item.Tunnel) {
				again(t, &e.item.Tunnel)
			}
		}
	})
}

// printable tells whether a tunnel could come from a director: no control characters, no separators inside names.
func printable(t *api.Tunnel) bool {
	ok := func(s string) bool {
		return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\ufffd' })
	}
	name := func(s string) bool { return ok(s) && !strings.ContainsAny(s, "; =\"") && strings.TrimSpace(s) == s }
	good := name(t.ID) && name(t.Service) && name(t.Group) && name(t.Tenant) && name(t.State)
	for _, list := range [][]string{t.Endpoints, t.Subnets, t.SeparateFrom} {
		for _, s := range list {
			good = good && name(s) && s != ""
		}
	}
	for k, v := range t.Labels {
		good = good && name(k) && k != "" && k[0] != '{' && ok(v)
	}
	return good
}

func again(t *testing.T, want *api.Tunnel) {
	for _, format := range []string{formatCSV, formatNDJSON} {
		var b bytes.Buffer
		put, flush := ndjsonWriter(&b)
		if format == formatCSV {
			put, flush = csvWriter(&b)
		}
		if err := errors.Join(put(want), flush()); err != nil {
			t.Fatal(err)
		}
		items, faults := readAll(t, format, b.String())
		if len(faults) > 0 || len(items) != 1 || !equalTunnels(&items[0].Tunnel, want) {
			t.Fatalf("%s: %q was read as %+v, faults %q; want %+v", format, b.String(), items, faults, *want)
		}
	}
}

// equalTunnels takes empty lists and none for the same, as the API does.
func equalTunnels(a, b *api.Tunnel) bool {
	text := func(t *api.Tunnel) string {
		return fmt.Sprintf("%q %q %q %q %d %q %q %q %q %q %d", t.ID, t.Service, t.Endpoints, t.Subnets, t.Bandwidth, t.Group, t.Tenant, t.State, sortedLabels(t.Labels), t.SeparateFrom, t.Generation)
	}
	return text(a) == text(b)
}

func TestLineMap(t *testing.T) {
	var m lineMap
	m.skip() // a header
	for _, file := range []int{2, 3, 5, 6, 9} {
		m.add(file)
	}
	for sent, want := range map[int]int{0: 0, 1: 0, 2: 2, 3: 3, 4: 5, 5: 6, 6: 9, 7: 0} {
		if got := m.file(sent); got != want {
			t.Errorf("line %d of the request is line %d of the file, want %d", sent, got, want)
		}
	}
	if len(m.runs) != 3 {
		t.Errorf("%d runs, want 3", len(m.runs))
	}
}

func TestFormatOfSources(t *testing.T) {
	for name, want := range map[string]string{"a.csv": "csv", "A.CSV": "csv", "a.ndjson": "ndjson", "a.jsonl": "ndjson", "-": "", "a.txt": ""} {
		if got := formatOfName(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	for text, want := range map[string]string{"id,service\n": "csv", "\ufeff\n {": "ndjson", "": "ndjson", `"id",service`: "csv"} {
		if got := formatOfText([]byte(text)); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
