package openflow

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
)

// Fake is a Switch without packets. It refuses what a real one refuses, and also flows that a real one takes and then drops
// packets by: those that send to a port that is not on the bridge, or to a table without flows. The zero value has no bridge.
type Fake struct {
	// Transactions are the texts that Apply committed, in order; empty ones are left out.
	Transactions []string
	// Flushed are the zones that FlushZone was called for, in order.
	Flushed []uint16
	// Tracked is what Connections gives.
	Tracked []Connection
	// Denied is what Denials gives.
	Denied map[uint32]uint64
	// Unusable are interfaces that AddPorts refuses.
	Unusable []string

	mu      sync.Mutex
	present *Bundle // nil: there is no bridge
	ports   map[string]uint32
	last    uint32 // the port number that was given last
}

var _ Switch = &Fake{}

var errNoBridge = errors.New("the Fake has no bridge: make it first (EnsureBridge)")

// locked runs f when there is a bridge.
func (s *Fake) locked(f func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.present == nil {
		return errNoBridge
	}
	return f()
}

// EnsureBridge makes an empty bridge when there is none.
func (s *Fake) EnsureBridge(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.present == nil {
		s.present, s.ports = &Bundle{}, map[string]uint32{}
	}
	return nil
}

// DeleteBridge removes the bridge.
func (s *Fake) DeleteBridge(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.present, s.ports = nil, nil
	return nil
}

// AddPorts numbers ports from 1.
func (s *Fake) AddPorts(_ context.Context, names ...string) (map[string]uint32, error) {
	added := map[string]uint32{}
	err := s.locked(func() error {
		for _, name := range names {
			if slices.Contains(s.Unusable, name) {
				return fmt.Errorf("the Fake cannot use %s as a port", name)
			}
		}
		for _, name := range names {
			if s.ports[name] == 0 {
				s.last++
				s.ports[name] = s.last
			}
			added[name] = s.ports[name]
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return added, nil
}

// DelPorts takes ports off the bridge.
func (s *Fake) DelPorts(_ context.Context, names ...string) error {
	return s.locked(func() error {
		for _, name := range names {
			delete(s.ports, name)
		}
		return nil
	})
}

// Ports gives the ports.
func (s *Fake) Ports(context.Context) (ports map[string]uint32, err error) {
	err = s.locked(func() error { ports = maps.Clone(s.ports); return nil })
	return ports, err
}

// ConfiguredPorts gives the same ports' names, sorted.
func (s *Fake) ConfiguredPorts(context.Context) (names []string, err error) {
	err = s.locked(func() error { names = slices.Sorted(maps.Keys(s.ports)); return nil })
	return names, err
}

// Apply checks the bundle and takes its flows and groups.
func (s *Fake) Apply(_ context.Context, b *Bundle) error {
	return s.locked(func() error {
		ports := map[uint32]bool{}
		for _, number := range s.ports {
			ports[number] = true
		}
		if err := check(b, ports); err != nil {
			return fmt.Errorf("the bundle is not applied to the Fake: %w", err)
		}
		if text := Transaction(b, s.present); text != "" {
			s.Transactions = append(s.Transactions, text)
		}
		present := &Bundle{Groups: slices.Clone(b.Groups), Flows: slices.Clone(b.Flows)}
		for i := range present.Flows {
			present.Flows[i].Comment = ""
		}
		for i := range present.Groups {
			present.Groups[i].Comment = ""
		}
		s.present = present
		return nil
	})
}

// Dump gives what was applied, sorted.
func (s *Fake) Dump(context.Context) (b *Bundle, err error) {
	err = s.locked(func() error { b = s.present.sorted(); return nil })
	return b, err
}

// Meddle changes what the Fake holds behind its user's back, as another controller would.
func (s *Fake) Meddle(change func(*Bundle)) error {
	return s.locked(func() error { change(s.present); return nil })
}

// FlushZone notes the zone.
func (s *Fake) FlushZone(_ context.Context, zone uint16) error {
	return s.locked(func() error { s.Flushed = append(s.Flushed, zone); return nil })
}

// InspectionIDs gives those of Tracked.
func (s *Fake) InspectionIDs(ctx context.Context) ([]uint16, error) {
	connections, err := s.Connections(ctx)
	return inspectionIDs(connections), err
}

// Connections gives Tracked.
func (s *Fake) Connections(context.Context) (list []Connection, err error) {
	err = s.locked(func() error { list = slices.Clone(s.Tracked); return nil })
	return list, err
}

// Denials gives Denied.
func (s *Fake) Denials(context.Context) (counts map[uint32]uint64, err error) {
	err = s.locked(func() error { counts = maps.Clone(s.Denied); return nil })
	return counts, err
}

// Watch tells that the switch is there, and waits: what Meddle does is not undone.
func (s *Fake) Watch(ctx context.Context, w Watcher) {
	w.Up(true)
	<-ctx.Done()
}

// ConntrackUse gives the number of Tracked, and no limit.
func (s *Fake) ConntrackUse(ctx context.Context) (used, limit uint64, err error) {
	connections, err := s.Connections(ctx)
	return uint64(len(connections)), 0, err
}

// CopiesDropped gives nothing.
func (s *Fake) CopiesDropped(context.Context) (map[uint8]uint64, error) {
	return map[uint8]uint64{}, nil
}

// LimitCopies does nothing: a Fake has no packets.
func (s *Fake) LimitCopies(context.Context, uint8, uint32) error { return nil }

// ClientsDropped gives nothing.
func (s *Fake) ClientsDropped(context.Context) (uint64, error) { return 0, nil }
