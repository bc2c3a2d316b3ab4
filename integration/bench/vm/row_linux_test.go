package vm

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// samples are values of the same thing.
type samples []float64

func (s samples) median() float64 { return slices.Sorted(slices.Values(s))[len(s)/2] }

func (s samples) spread() float64 { return (slices.Max(s) - slices.Min(s)) / s.median() }

// A row holds a value against another one of the same run.
type row struct {
	name    string
	value   samples
	unit    string
	against string
	other   samples
	note    string // how the other is to be read
}

// table collects rows for people.
type table []row

func (t *table) add(r row) { *t = append(*t, r) }

func (t table) print(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(tw, "NAME\tVALUE\tUNIT\tSPREAD\tAGAINST\tITS VALUE\tRATIO\tREADING")
	for _, r := range t {
		fmt.Fprintf(tw, "%s\t%.4g\t%s\t%.0f %%\t%s\t%.4g\t%.3g\t%s\n", r.name, r.value.median(), r.unit, 100*r.value.spread(), r.against,
			r.other.median(), r.value.median()/r.other.median(), r.note)
	}
	return tw.Flush()
}
