// Command bench compares what HTTP traffic through a Service costs: without any policy, with HAProxy in front of the server and
// the same allow-list, with a Suricata of the same settings and rules between two interfaces and no switch, and with Meerkat. All
// of them run in one lab, one after another in each round, so that the ratios of a round hold however fast the machine is at that
// moment. It also measures what rule sets cost to load and keep.
//
// It needs root, Open vSwitch, Suricata 8, HAProxy and wrk: `make bench` installs what is missing.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"
)

// options are the command line's.
type options struct {
	rounds, seconds, connections int
	page                         string
}

func main() {
	var o options
	flag.IntVar(&o.rounds, "rounds", 5, "how many times each variant is measured")
	flag.IntVar(&o.seconds, "seconds", 3, "how long each measurement takes")
	flag.IntVar(&o.connections, "connections", 16, "how many connections the client has open at a time")
	flag.StringVar(&o.page, "page", "", "Markdown page whose generated part is to be replaced")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) (err error) {
	began := time.Now()
	say := func(format string, args ...any) {
		fmt.Fprintf(os.Stderr, "[%5.1fs] %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, args...))
	}
	cpu := newCPUMeter()
	defer func() { err = errors.Join(err, cpu.close()) }()
	traffic, err := compareTraffic(ctx, o, cpu, say)
	if err != nil {
		return err
	}
	loads, err := compareRuleSets(ctx, min(o.rounds, 3), say)
	if err != nil {
		return err
	}
	report := fmt.Sprintf("%s, %s. %d rounds, each measurement %d s, %d connections at a time. CPU time is that of %s.\n\n%s\n"+
		"Ratios are those of the two figures of one round: their median, and in brackets the smallest and the largest.\n\n%s",
		time.Now().UTC().Format(time.DateOnly), machine(), o.rounds, o.seconds, o.connections, cpu.what, comparison(traffic), loading(loads))
	fmt.Print(report)
	if o.page == "" {
		return nil
	}
	return writePage(o.page, report)
}

func compareTraffic(ctx context.Context, o options, cpu *cpuMeter, say func(string, ...any)) (all []round, err error) {
	b, err := newBed(ctx, say)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	b.cpu = cpu
	if err := b.check(ctx); err != nil {
		return nil, err
	}
	for i := range o.rounds {
		say("round %d of %d", i+1, o.rounds)
		r := round{}
		for _, v := range variants {
			if r[v.name], err = b.measure(ctx, v, o.seconds, o.connections); err != nil {
				return nil, err
			}
		}
		all = append(all, r)
	}
	return all, nil
}

func compareRuleSets(ctx context.Context, rounds int, say func(string, ...any)) (map[int][]ruleSetFigures, error) {
	all := map[int][]ruleSetFigures{}
	for i := range rounds {
		say("loading rule sets, round %d of %d", i+1, rounds)
		for _, n := range ruleSetCounts {
			f, err := measureRuleSets(ctx, n)
			if err != nil {
				return nil, fmt.Errorf("loading %d rule sets: %w", n, err)
			}
			all[n] = append(all[n], f)
		}
	}
	return all, nil
}
