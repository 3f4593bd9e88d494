package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab"
)

// writeStatus prints a lab's status as `kubectl get` would print its objects.
func writeStatus(w io.Writer, s lab.Status) error {
	t := tabwriter.NewWriter(w, 0, 8, 3, ' ', 0)
	fmt.Fprintln(t, "NODE\tENGINE\tSWITCH\tRULES\tGOVERNED PODS\tLAST SYNC")
	for _, n := range s.Nodes {
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%d\t%s\n", n.Name, n.Engine, n.Switch, n.Rules, n.Governed, dash(n.Sync))
	}
	fmt.Fprintln(t, "\nPOD\tNODE\tADDRESSES\tGOVERNED")
	for _, p := range s.Pods {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", p.Name, p.Node, strings.Join(p.Addresses, ","), dash(p.Governed))
	}
	if len(s.Services) > 0 {
		fmt.Fprintln(t, "\nSERVICE\tADDRESSES\tPORTS")
	}
	for _, svc := range s.Services {
		fmt.Fprintf(t, "%s\t%s\t%s\n", svc.Name, strings.Join(svc.Addresses, ","), strings.Join(svc.Ports, ", "))
	}
	if len(s.Policies) > 0 {
		fmt.Fprintln(t, "\nPOLICY\tMODE\tSCOPE\tREADY\tDENIED\tAUDITED\tLAST DENIED")
	}
	for i := range s.Policies {
		writePolicy(t, &s.Policies[i])
	}
	writeInspections(t, &s)
	if err := t.Flush(); err != nil {
		return err
	}
	return writeConditions(w, s.Policies)
}

func writePolicy(w io.Writer, p *v1alpha1.L7Policy) {
	ready := "Unknown"
	if c := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionReady); c != nil {
		ready = string(c.Status)
	}
	last := "-"
	if p.Status.LastDenied != nil {
		last = ago(p.Status.LastDenied.Time)
	}
	fmt.Fprintf(w, "%s/%s\t%s\t%s\t%s\t%d\t%d\t%s\n",
		p.Namespace, p.Name, p.Spec.Mode, p.Spec.Scope, ready, p.Status.Denied, p.Status.Audited, last)
}

// writeInspections prints the inspections and, apart, their engines, which several of them may share.
func writeInspections(w io.Writer, s *lab.Status) {
	if len(s.Inspections) == 0 {
		return
	}
	fmt.Fprintln(w, "\nINSPECTION\tMODE\tRULE SETS\tPODS\tALERTS\tDROPPED\tLAST ALERT\tSTATE")
	for i := range s.Inspections {
		in := &s.Inspections[i]
		last := "-"
		if !in.LastAlert.IsZero() {
			last = ago(in.LastAlert)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%d\t%s\t%s\n",
			in.Name, in.Mode, strings.Join(in.RuleSets, ","), in.Pods, in.Alerts, in.Dropped, last, in.State)
	}
	fmt.Fprintln(w, "\nSIGNATURE ENGINE\tNODE\tMODE\tSIGNATURES\tRESTARTS\tNOT COPIED\tNOT READ\tALERTS LOST")
	for i := range s.Nodes {
		for _, e := range s.Nodes[i].Signatures {
			fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%d\t%d\t%d\n", dash(strings.Join(e.Inspections, ",")), s.Nodes[i].Name, e.Mode,
				e.Rules, e.Restarts, e.CopiesDropped, e.RingDropped, e.AlertsLost)
		}
	}
}

func ago(t time.Time) string { return time.Since(t).Round(time.Second).String() + " ago" }

func writeConditions(w io.Writer, policies []v1alpha1.L7Policy) error {
	t := tabwriter.NewWriter(w, 0, 8, 3, ' ', 0)
	if len(policies) > 0 {
		fmt.Fprintln(t, "\nPOLICY\tCONDITION\tSTATUS\tREASON\tMESSAGE")
	}
	for i := range policies {
		p := &policies[i]
		for _, c := range p.Status.Conditions {
			if c.Status == metav1.ConditionTrue && c.Message == "" {
				c.Message = "-"
			}
			fmt.Fprintf(t, "%s/%s\t%s\t%s\t%s\t%s\n", p.Namespace, p.Name, c.Type, c.Status, c.Reason, c.Message)
		}
	}
	return t.Flush()
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
