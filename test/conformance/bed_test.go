package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab"
	"github.com/meerkat-dev/meerkat/test/testlab"
)

// bed is a lab that follows a cluster's changes, and whose Pods ask each other.
type bed struct {
	lab     *lab.Lab
	applied objects
	hosts   map[string]*host // by namespace and name
	// repeated counts probes that had to be sent again, since the first was lost or late.
	repeated int
}

var labs testlab.Labs

func newBed(t *testing.T) *bed {
	t.Helper()
	opts := labs.Options(t)
	opts.Nodes = nodes
	opts.Patience = 5 // a busy machine is no engine that has failed
	b := &bed{lab: testlab.Start(t, opts), applied: objects{}, hosts: map[string]*host{}}
	t.Cleanup(func() {
		for _, h := range b.hosts {
			_ = h.close()
		}
	})
	return b
}

// become makes the lab hold these objects and no others, and returns once its nodes do what they say.
func (b *bed) become(ctx context.Context, c *cluster, wanted objects) error {
	changed, n, err := wanted.read(func(key, text string) bool { return b.applied[key] != text })
	if err == nil && n > 0 {
		err = b.lab.Apply(ctx, changed)
	}
	if err != nil {
		return err
	}
	for p, h := range b.hosts { // a namespace that is in use does not go
		if !slices.ContainsFunc(c.pods, func(of *pod) bool { return of.String() == p }) {
			err = errors.Join(err, h.close())
			delete(b.hosts, p)
		}
	}
	gone, n, readErr := b.applied.read(func(key, _ string) bool { return wanted[key] == "" && !strings.HasPrefix(key, "Namespace ") })
	if err = errors.Join(err, readErr); err == nil && n > 0 {
		err = b.lab.Delete(ctx, gone)
	}
	if err != nil {
		return err
	}
	b.applied = wanted
	for _, p := range c.pods {
		if b.hosts[p.String()] == nil {
			path := b.lab.PodNetns(types.NamespacedName{Namespace: p.namespace, Name: p.name})
			if b.hosts[p.String()], err = openHost(ctx, path); err != nil {
				return fmt.Errorf("Pod %s: %w", p, err)
			}
		}
	}
	return nil
}

// Time limits of probes. Most of what is denied is denied in silence, and waits for nothing but time: atLeast, and twice as long as the
// slowest answer took, on a machine that has something else to do. Who should be answered and is not after atMost is sent again.
const (
	atLeast = 400 * time.Millisecond
	rounds  = 4
)

func atMost(round int) time.Duration { return 2 * time.Second << round }

// atOnce is how many TCP connections are opened at once that are to be answered: where all of them go through the engine, hundreds would
// make it look hung on a busy machine.
const atOnce = 100

// observe tells which probes are answered. One that is answered although it should not be is never asked again.
func (b *bed) observe(probes []probe, expected func(probe) bool) ([]bool, error) {
	answered := make([]bool, len(probes))
	var others, tcp []int
	for i, p := range probes {
		if p.protocol == corev1.ProtocolTCP && expected(p) {
			tcp = append(tcp, i)
		} else {
			others = append(others, i)
		}
	}
	for round := range rounds {
		var again []int
		for chunk := range slices.Chunk(tcp, atOnce) {
			if err := b.askSome(probes, chunk, answered, expected, atMost(round)); err != nil {
				return nil, err
			}
			again = append(again, slices.DeleteFunc(slices.Clone(chunk), func(i int) bool { return answered[i] })...)
		}
		if err := b.askSome(probes, others, answered, expected, atMost(round)); err != nil {
			return nil, err
		}
		others = slices.DeleteFunc(others, func(i int) bool { return answered[i] || !expected(probes[i]) })
		if tcp = again; len(tcp)+len(others) == 0 {
			break
		}
		if round < rounds-1 {
			b.repeated += len(tcp) + len(others)
		}
	}
	return answered, nil
}

// askSome asks the probes at these places at once.
func (b *bed) askSome(probes []probe, places []int, answered []bool, expected func(probe) bool, limit time.Duration) error {
	list := make([]probe, len(places))
	for k, i := range places {
		list[k] = probes[i]
	}
	now, err := ask(b.hosts, list, expected, limit)
	for k, i := range places {
		answered[i] = err == nil && now[k]
	}
	return err
}

// engines tells how the nodes' engines are.
func (b *bed) engines() string {
	var all []string
	for n := range nodes {
		name := fmt.Sprintf("node-%d", n+1)
		s := b.lab.Engine(name)
		all = append(all, fmt.Sprintf("%s: healthy %t %s, started again %d times, %d of %d probes lost, the last took %s",
			name, s.Health.Healthy, s.Health.Reason, s.Restarts, s.ProbesLost, s.ProbesSent, s.RTT))
	}
	return strings.Join(all, "; ")
}

// probes are all questions that Pods of the cluster can ask each other. A Pod that asks itself by its own address is not among them,
// since that stays in the Pod; by its Service's address it is.
func (c *cluster) probes() (all []probe) {
	for _, from := range c.pods {
		for _, to := range c.pods {
			for _, protocol := range protocols {
				for _, port := range portNums {
					if from != to {
						all = append(all, probe{from, to, protocol, port, false})
					}
					all = append(all, probe{from, to, protocol, port, true})
				}
			}
		}
	}
	return all
}
