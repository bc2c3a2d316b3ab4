package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"text/tabwriter"
)

// A Figure is what a value is held against.
type Figure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"` // in the row's unit
}

// A Row is one result. Ratio is Value over Floor or, without one, over Peer.
type Row struct {
	Name   string  `json:"name"`
	Value  float64 `json:"value"`
	Unit   string  `json:"unit"`
	Floor  *Figure `json:"floor,omitempty"`
	Peer   *Figure `json:"peer,omitempty"`
	Ratio  float64 `json:"ratio"`
	Spread float64 `json:"spread"` // (greatest - least) / median of the samples
	Target string  `json:"target,omitempty"`
	Met    *bool   `json:"met,omitempty"`
}

// over holds a value against a floor.
func over(name, unit string, s samples, floorName string, floor samples) Row {
	f := Figure{floorName, floor.median()}
	return Row{Name: name, Value: s.median(), Unit: unit, Floor: &f, Ratio: quotient(s.median(), f.Value), Spread: s.spread()}
}

// against holds a value against a peer.
func against(name, unit string, s samples, peerName string, peer samples) Row {
	f := Figure{peerName, peer.median()}
	return Row{Name: name, Value: s.median(), Unit: unit, Peer: &f, Ratio: quotient(s.median(), f.Value), Spread: s.spread()}
}

// quotient is a/b. Nothing over nothing is even: both took no measurable time.
func quotient(a, b float64) float64 {
	if a == b {
		return 1
	}
	return a / b
}

// ratioAtMost, ratioAtLeast and valueAtMost set the target.
func (r Row) ratioAtMost(x float64) Row  { return r.target("ratio <= "+number(x), r.Ratio <= x) }
func (r Row) ratioAtLeast(x float64) Row { return r.target("ratio >= "+number(x), r.Ratio >= x) }
func (r Row) valueAtMost(x float64) Row  { return r.target("value <= "+number(x), r.Value <= x) }

func (r Row) target(words string, met bool) Row {
	r.Target, r.Met = words, &met
	return r
}

// finite tells whether the row's numbers are numbers, which JSON needs too.
func (r Row) finite() bool {
	for _, x := range []float64{r.Value, r.Ratio, r.Spread} {
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return false
		}
	}
	return r.Floor != nil || r.Peer != nil
}

// samples are values of the same thing.
type samples []float64

func one(x float64) samples { return samples{x} }

func (s samples) quantile(q float64) float64 {
	if len(s) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(s))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

func (s samples) median() float64 { return s.quantile(0.5) }

func (s samples) spread() float64 {
	if m := s.median(); m != 0 && len(s) > 1 {
		return (slices.Max(s) - slices.Min(s)) / m
	}
	return 0
}

// p99 is the samples' 99th percentile as samples, so that it can stand in a row.
func (s samples) p99() samples { return one(s.quantile(0.99)) }

func (s samples) plus(o samples) samples {
	out := make(samples, min(len(s), len(o)))
	for i := range out {
		out[i] = s[i] + o[i]
	}
	return out
}

// number is short, for people.
func number(x float64) string {
	switch a := math.Abs(x); {
	case a >= 1000 || x == math.Trunc(x):
		return strconv.FormatFloat(x, 'f', 0, 64)
	case a >= 10:
		return strconv.FormatFloat(x, 'f', 1, 64)
	}
	return strconv.FormatFloat(x, 'g', 3, 64)
}

// printTable writes rows for people.
func printTable(w io.Writer, rows []Row) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tVALUE\tUNIT\tSPREAD\tAGAINST\tITS VALUE\tRATIO\tTARGET\t")
	for _, r := range rows {
		f := r.Floor
		if f == nil {
			f = r.Peer
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%.0f %%\t%s\t%s\t%.3g\t%s\t%s\n", r.Name, number(r.Value), r.Unit, 100*r.Spread, f.Name, number(f.Value),
			r.Ratio, r.Target, verdict(r.Met))
	}
	return t.Flush()
}

func verdict(met *bool) string {
	switch {
	case met == nil:
		return ""
	case *met:
		return "met"
	}
	return "MISSED"
}

// writeJSON writes rows for programs.
func writeJSON(path string, rows []Row) error {
	data, err := json.MarshalIndent(rows, "", "  ")
	if err == nil {
		err = os.WriteFile(path, append(data, '\n'), 0o644)
	}
	if err != nil {
		return fmt.Errorf("write the results: %w", err)
	}
	return nil
}
