// Command bench compares what HTTP traffic through a Service costs: without any policy, with HAProxy in front of the server and
// the same allow-list, and with Meerkat. All of them run in one lab, one after another in each round, so that the ratios of a
// round hold however fast the machine is at that moment.
//
// It needs root, Open vSwitch, Suricata 8, HAProxy and wrk: `make bench` installs what is missing.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"
)

func main() {
	rounds := flag.Int("rounds", 5, "how many times each of the three is measured")
	seconds := flag.Int("seconds", 3, "how long each measurement takes")
	connections := flag.Int("connections", 16, "how many connections the client has open at a time")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, *rounds, *seconds, *connections)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, rounds, seconds, connections int) (err error) {
	began := time.Now()
	say := func(format string, args ...any) {
		fmt.Fprintf(os.Stderr, "[%5.1fs] %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, args...))
	}
	b, err := newBed(ctx, say)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := b.close(); err == nil {
			err = closeErr
		}
	}()
	if err := b.check(ctx); err != nil {
		return err
	}
	var all []round
	for i := range rounds {
		say("round %d of %d", i+1, rounds)
		r := round{}
		for _, v := range variants {
			if r[v.name], err = b.measure(ctx, v, seconds, connections); err != nil {
				return err
			}
		}
		all = append(all, r)
	}
	fmt.Printf("%d rounds, each measurement %d s, %d connections at a time\n\n", rounds, seconds, connections)
	return print(os.Stdout, all)
}
