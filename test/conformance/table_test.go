package conformance

import (
	"fmt"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// row is what came of all cases, enforced in one way.
type row struct {
	name                                                           string
	cases, steps, tcp, udp, sctp, allowed, denied, repeated, wrong int
	took                                                           time.Duration
}

// mostShown bounds the differences that one step prints.
const mostShown = 10

// count compares one step's answers with the simulated table, and gives the number of differences.
func (r *row) count(t *testing.T, step string, probes []probe, answered []bool, simulated func(probe) bool) (wrong int) {
	t.Helper()
	r.steps++
	for i, p := range probes {
		switch p.protocol {
		case corev1.ProtocolUDP:
			r.udp++
		case corev1.ProtocolSCTP:
			r.sctp++
		default:
			r.tcp++
		}
		expected := simulated(p)
		if expected {
			r.allowed++
		} else {
			r.denied++
		}
		if answered[i] != expected {
			if wrong++; wrong <= mostShown {
				t.Errorf("%s: %s\n  %s: answered %t, simulated %t", r.name, step, p, answered[i], expected)
			}
		}
	}
	if wrong > mostShown {
		t.Errorf("%s: %s: %d more differences", r.name, step, wrong-mostShown)
	}
	r.wrong += wrong
	return wrong
}

type table []row

func (t *table) add(r row) { *t = append(*t, r) }

func (t table) String() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "CASES\tSTEPS\tPROBES\tTCP\tUDP\tSCTP\tALLOWED\tDENIED\tSENT AGAIN\tDIFFERENCES\tTOOK\t ENFORCED BY")
	for _, r := range t {
		fmt.Fprintf(w, "%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%s\t %s\n", r.cases, r.steps, r.tcp+r.udp+r.sctp, r.tcp, r.udp, r.sctp,
			r.allowed, r.denied, r.repeated, r.wrong, r.took.Round(time.Second), r.name)
	}
	_ = w.Flush()
	return b.String()
}
