package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// quantity is one column of figures.
type quantity struct {
	name   string
	of     func(figures) float64
	format func(float64) string
}

var quantities = []quantity{
	{"requests/s, kept alive", func(f figures) float64 { return f.requests }, number},
	{"connections/s", func(f figures) float64 { return f.connections }, number},
	{"p50 latency", func(f figures) float64 { return float64(f.p50) }, duration},
	{"p99 latency", func(f figures) float64 { return float64(f.p99) }, duration},
}

func number(v float64) string   { return fmt.Sprintf("%.0f", v) }
func duration(v float64) string { return time.Duration(v).Round(10 * time.Microsecond).String() }
func ratio(v float64) string    { return fmt.Sprintf("%.2f", v) }

// print writes the figures as medians, and the ratios pair by pair: of the two figures of one round, then their median and range.
func print(w io.Writer, all []round) error {
	t := tabwriter.NewWriter(w, 0, 8, 3, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "median\t")
	for _, v := range variants {
		fmt.Fprint(t, v.name+"\t")
	}
	fmt.Fprint(t, "HAProxy / none\tMeerkat / none\tMeerkat / HAProxy\t\n")
	for _, q := range quantities {
		fmt.Fprint(t, q.name+"\t")
		for _, v := range variants {
			fmt.Fprint(t, q.format(median(column(all, q, v.name)))+"\t")
		}
		for _, pair := range [][2]string{{"HAProxy", "no policy"}, {"Meerkat", "no policy"}, {"Meerkat", "HAProxy"}} {
			a, b := column(all, q, pair[0]), column(all, q, pair[1])
			for i := range a {
				a[i] /= b[i]
			}
			fmt.Fprintf(t, "%s (%s–%s)\t", ratio(median(a)), ratio(slices.Min(a)), ratio(slices.Max(a)))
		}
		fmt.Fprintln(t)
	}
	return t.Flush()
}

func column(all []round, q quantity, variant string) []float64 {
	values := make([]float64, len(all))
	for i, r := range all {
		values[i] = q.of(r[variant])
	}
	return values
}

func median(values []float64) float64 {
	s := slices.Sorted(slices.Values(values))
	if len(s)%2 == 1 {
		return s[len(s)/2]
	}
	return (s[len(s)/2-1] + s[len(s)/2]) / 2
}
