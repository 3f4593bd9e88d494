package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/network"
	"github.com/meerkat-dev/meerkat/dataplane/attach/netspace"
	"github.com/meerkat-dev/meerkat/dataplane/engine"
	"github.com/meerkat-dev/meerkat/dataplane/l7"
	suricatarules "github.com/meerkat-dev/meerkat/suricata-rules"
)

// ruleSetCounts are how many distinct rule sets a node is measured with.
var ruleSetCounts = []int{1, 100, 1000}

// ruleSetFigures are what loading some rule sets into an idle engine took.
type ruleSetFigures struct {
	rules int
	load  time.Duration // check, reload and read-back
	rss   float64       // of the engine after it, in MiB
}

const pairs = `set -e
for i in a b; do
	ip link add mk-l7$i type veth peer name mk-l7$i-br
	for end in mk-l7$i mk-l7$i-br; do
		sysctl -qw net.ipv6.conf.$end.disable_ipv6=1
		ethtool -K $end tx off gso off gro off tso off >/dev/null
		ip link set $end up
	done
done
`

// measureRuleSets loads n rule sets of two entries into an engine that has none.
func measureRuleSets(ctx context.Context, n int) (f ruleSetFigures, err error) {
	name := fmt.Sprintf("mk-bench-rules-%d", os.Getpid())
	space, err := netspace.Create(name)
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, netspace.Delete(name)) }()
	if _, err := script(network.NewCommand(ctx, space, "bash", "-c", pairs)); err != nil {
		return f, err
	}
	dir, err := os.MkdirTemp("", "mkb-")
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	e, err := startEngine(ctx, engine.Config{A: "mk-l7a", B: "mk-l7b", Netns: space, Dir: filepath.Join(dir, "engine")})
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, e.Stop(context.WithoutCancel(ctx))) }()
	rules, err := manyRuleSets(n)
	if err != nil {
		return f, err
	}
	loaded, err := e.Load(ctx, rules)
	if err != nil {
		return f, err
	}
	f.rules, f.load = loaded.Rules, loaded.Took
	f.rss, err = rss(e.Status().PID)
	return f, err
}

func manyRuleSets(n int) (engine.Rules, error) {
	sets := make([]suricatarules.RuleSet, n)
	for i := range sets {
		policy := fmt.Sprintf("bench/policy-%d", i)
		entry := func(rule, path string) l7.Entry {
			return l7.Entry{Policy: policy, Rule: rule, HTTP: &l7.HTTP{
				Methods: []string{"GET", "HEAD"}, Path: &l7.StringMatch{Prefix: fmt.Sprintf("/%s/%d/", path, i)},
			}}
		}
		sets[i] = suricatarules.RuleSet{ID: uint16(i + 1), Policies: []string{policy}, Entries: []l7.Entry{entry("a", "public"), entry("b", "items")}}
	}
	f, err := suricatarules.Render(sets)
	return engine.Rules{Firewall: f.Firewall, Detect: f.Detect, Expected: f.Count}, err
}

// rss gives a process's resident memory in MiB.
func rss(pid int) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, err
	}
	fields := bytes.Fields(text)
	pages, err := strconv.Atoi(string(fields[1]))
	return float64(pages) * float64(os.Getpagesize()) / (1 << 20), err
}
