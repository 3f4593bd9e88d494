package flowexport

import (
	"cmp"
	"context"
	"reflect"
	"slices"
	"strings"
	"time"
)

// apply makes the configurations hold that were given last.
func (e *Exporter) apply(ctx context.Context) {
	e.mu.Lock()
	wanted := make([]Config, len(e.configs))
	for i, c := range e.configs {
		wanted[i] = c.withDefaults()
	}
	e.mu.Unlock()
	before := e.active
	place := make([]int, len(wanted)) // of the configuration of the same name before; -1 for none
	senders := make([][]*collector, len(wanted))
	encoders := make([]*encoder, len(wanted))
	stays := map[*collector]bool{}
	for i := range wanted {
		c := &wanted[i]
		place[i] = slices.IndexFunc(before, func(b Config) bool { return b.Name == c.Name })
		old := place[i]
		same := old >= 0 && before[old].EnterpriseNumber == c.EnterpriseNumber && slices.Equal(before[old].LabelKeys, c.LabelKeys)
		if same {
			encoders[i] = e.encoders[old] // the templates are the same ones
		} else {
			encoders[i] = newEncoder(e.options.Node, c)
		}
		senders[i] = make([]*collector, len(c.Collectors))
		for k := range c.Collectors {
			if same {
				senders[i][k] = e.sender(old, &c.Collectors[k])
			}
			if senders[i][k] == nil {
				senders[i][k] = newCollector(c.Name, e.options.Node, c.Collectors[k], e.options.Log, e.countsOf(c.Name, c.Collectors[k].Name))
				e.start(ctx, senders[i][k])
			}
			stays[senders[i][k]] = true
		}
	}
	for _, list := range e.senders {
		for _, c := range list {
			if !stays[c] {
				c.close()
			}
		}
	}
	e.active, e.senders, e.encoders, e.busy = wanted, senders, encoders, make([]bool, len(wanted))
	e.moveTold(place)
	e.publish()
}

// sender gives the one of a configuration, by its place, that has the same specification but for the filter, which is not its business.
func (e *Exporter) sender(place int, spec *Collector) *collector {
	for _, c := range e.senders[place] {
		have, want := c.spec, *spec
		have.Filter, want.Filter = nil, nil
		if reflect.DeepEqual(have, want) {
			return c
		}
	}
	return nil
}

// countsOf gives the counts of a collector by its names, which go on when it is configured anew.
func (e *Exporter) countsOf(config, name string) *counts {
	for _, list := range e.senders {
		for _, c := range list {
			if c.config == config && c.spec.Name == name {
				return c.counts
			}
		}
	}
	return &counts{}
}

// start runs a sender. One that is closed has leaveGrace for what waits.
func (e *Exporter) start(ctx context.Context, c *collector) {
	ctx, cancel := context.WithCancel(ctx)
	c.leave = func() { time.AfterFunc(leaveGrace, cancel) }
	e.leaving.Go(func() {
		defer cancel()
		c.run(ctx)
	})
}

// moveTold puts what configurations have been told into their new places. One that is new is told of what happens from now on.
func (e *Exporter) moveTold(place []int) {
	now := time.Now()
	for k, c := range e.connections {
		was := c.told
		c.told = make([]told, len(place))
		for i, old := range place {
			if old >= 0 && old < len(was) {
				c.told[i] = was[old]
			} else {
				c.baseline(i, now)
			}
		}
		if len(place) == 0 {
			delete(e.connections, k)
		}
	}
}

// publish lets Status see the senders.
func (e *Exporter) publish() {
	var all []*collector
	for _, list := range e.senders {
		all = append(all, list...)
	}
	slices.SortFunc(all, func(a, b *collector) int {
		return cmp.Or(strings.Compare(a.config, b.config), strings.Compare(a.spec.Name, b.spec.Name))
	})
	e.mu.Lock()
	e.collectors = all
	e.mu.Unlock()
}
