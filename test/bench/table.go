package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// quantity is one row of figures.
type quantity struct {
	name   string
	of     func(figures) float64
	format func(float64) string
}

var quantities = []quantity{
	{"requests/s, kept alive", func(f figures) float64 { return f.requests }, number},
	{"connections/s, one request each", func(f figures) float64 { return f.connections }, number},
	{"p50 latency, kept alive", func(f figures) float64 { return float64(f.p50) }, milliseconds},
	{"p99 latency, kept alive", func(f figures) float64 { return float64(f.p99) }, milliseconds},
	{"CPU s per 10,000 requests", func(f figures) float64 { return 1e4 * f.requestCPU.Seconds() }, ratio},
	{"CPU s per 10,000 connections", func(f figures) float64 { return 1e4 * f.connectionCPU.Seconds() }, ratio},
	{"failed of 10,000 connections", func(f figures) float64 { return f.failed }, ratio},
}

// compared are the pairs whose ratios are of interest.
var compared = [][2]string{
	{"HAProxy", "no policy"}, {"Suricata", "no policy"}, {"Meerkat", "no policy"}, {"Meerkat", "HAProxy"}, {"Meerkat", "Suricata"},
}

func number(v float64) string       { return fmt.Sprintf("%.0f", v) }
func milliseconds(v float64) string { return fmt.Sprintf("%.2f ms", v/float64(time.Millisecond)) }
func ratio(v float64) string        { return fmt.Sprintf("%.2f", v) }

// comparison gives the figures as medians, and the ratios pair by pair: of the two figures of one round, then their median and
// range.
func comparison(all []round) string {
	header := []string{"median"}
	for _, v := range variants {
		header = append(header, v.name)
	}
	for _, pair := range compared {
		header = append(header, pair[0]+" / "+pair[1])
	}
	rows := [][]string{header}
	for _, q := range quantities {
		row := []string{q.name}
		for _, v := range variants {
			row = append(row, q.format(median(column(all, q, v.name))))
		}
		for _, pair := range compared {
			r := ratios(column(all, q, pair[0]), column(all, q, pair[1]))
			if len(r) == 0 {
				row = append(row, "")
				continue
			}
			row = append(row, spread(r, ratio))
		}
		rows = append(rows, row)
	}
	return markdown(rows)
}

// loading gives what rule sets cost, as medians and ranges.
func loading(all map[int][]ruleSetFigures) string {
	rows := [][]string{{"rule sets", "rules", "loaded in (check, reload, read-back)", "engine's memory (RSS)"}}
	for _, n := range ruleSetCounts {
		var load, memory []float64
		for _, f := range all[n] {
			load, memory = append(load, f.load.Seconds()), append(memory, f.rss)
		}
		rows = append(rows, []string{
			fmt.Sprint(n), fmt.Sprint(all[n][0].rules), spread(load, ratio) + " s", spread(memory, number) + " MiB",
		})
	}
	return markdown(rows)
}

// spread gives a median and a range.
func spread(values []float64, format func(float64) string) string {
	return fmt.Sprintf("%s (%s–%s)", format(median(values)), format(slices.Min(values)), format(slices.Max(values)))
}

// ratios leaves out rounds in which there is nothing to divide by.
func ratios(a, b []float64) (out []float64) {
	for i := range a {
		if b[i] > 0 {
			out = append(out, a[i]/b[i])
		}
	}
	return out
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

// markdown writes a table, the first row as its head, with columns as wide as they need to be.
func markdown(rows [][]string) string {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	for r, row := range rows {
		for i, cell := range row {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i == 0 {
				b.WriteString("| " + cell + pad + " |")
			} else {
				b.WriteString(" " + pad + cell + " |")
			}
		}
		b.WriteString("\n")
		if r == 0 {
			for i, w := range widths {
				if i == 0 {
					b.WriteString("|" + strings.Repeat("-", w+2) + "|")
				} else {
					b.WriteString(strings.Repeat("-", w+1) + ":|")
				}
			}
			b.WriteString("\n")
		}
	}
	return b.String()
}
