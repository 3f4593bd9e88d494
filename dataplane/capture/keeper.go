package capture

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
)

// End is one end of a connection.
type End struct {
	Address netip.AddrPort `json:"address"`
	// Name is the Pod's "namespace/name"; empty when the address is of none that is known.
	Name string `json:"name,omitempty"`
}

// Options say how packets are kept.
type Options struct {
	// Dir keeps the packets: a directory below it for each inspection.
	Dir string
	// Netns is the network namespace of the interfaces; "" is the process's own.
	Netns string
	// Recent is how many bytes of packets are held in memory for what may still raise an alert; default 32 MiB.
	Recent int
	Log    logr.Logger
}

// Tap says what packets with a VLAN id are.
type Tap struct {
	Number    uint16
	Direction string
	// Inspections are the "namespace/name"s of those that look at them.
	Inspections []string
}

// Wanted is all that is to be kept.
type Wanted struct {
	// MaxBytes has the inspections whose packets are kept, and how much of each.
	MaxBytes map[string]int64
	Taps     []Tap
	// Interfaces are where packets arrive at the engines of these inspections.
	Interfaces []string
}

// Keeper keeps packets. Make it with New. Its methods may be called from several goroutines.
type Keeper struct {
	opts Options
	lost atomic.Uint64

	mu     sync.Mutex
	taps   map[uint16]Tap
	stores map[string]*store
	ring   *ring // nil while nothing is kept
	active map[activeKey]*active
	// fragments counts the connections in active by what later fragments tell of them.
	fragments map[activeKey][]activeKey
	readers   map[string]*reader
	told      string // the last error in the log
	running   sync.WaitGroup
	stop      chan struct{}
}

type activeKey struct {
	tap  uint16
	flow flow
}

// active is a connection that has raised an alert.
type active struct {
	connection Connection
	last       time.Time        // packet or alert
	kept       map[string]int64 // bytes, by inspection
}

const (
	defaultRecent = 32 << 20
	// idleAfter is how long after its last packet a connection is over.
	idleAfter = 2 * time.Minute
	// mostActive bounds the connections that are followed; of further ones, what there was up to the alert is kept.
	mostActive = 8192
	// shareOfOne is the part of what an inspection keeps that one connection may take.
	shareOfOne = 4
	tendEvery  = time.Second
)

// New makes one that keeps nothing yet.
func New(opts Options) *Keeper {
	if opts.Recent == 0 {
		opts.Recent = defaultRecent
	}
	k := &Keeper{
		opts: opts, stores: map[string]*store{}, active: map[activeKey]*active{}, fragments: map[activeKey][]activeKey{},
		readers: map[string]*reader{}, stop: make(chan struct{}),
	}
	k.running.Go(k.tend)
	return k
}

// AgentDir is where agents keep packets, on disks of their nodes: below what the agent's container has of them.
const AgentDir = "/var/lib/meerkat/capture"

// Dir is where the packets of an inspection ("namespace/name") are, below the keeper's directory.
func Dir(base, inspection string) string {
	namespace, name, _ := strings.Cut(inspection, "/")
	return filepath.Join(base, namespace, name)
}

// Lost counts packets that came faster than they were read.
func (k *Keeper) Lost() uint64 { return k.lost.Load() }

// Follow makes the keeper keep what is wanted now. What was kept of inspections that are not wanted any more is removed.
func (k *Keeper) Follow(w Wanted) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	var errs []error
	for name, s := range k.stores {
		if _, wanted := w.MaxBytes[name]; !wanted {
			errs = append(errs, s.close())
			delete(k.stores, name)
		}
	}
	errs = append(errs, k.removeOthers(w.MaxBytes))
	for name, most := range w.MaxBytes {
		if s := k.stores[name]; s != nil {
			s.maxBytes = most
			errs = append(errs, s.prune())
			continue
		}
		s, err := openStore(Dir(k.opts.Dir, name), most)
		if errs = append(errs, err); err == nil {
			k.stores[name] = s
		}
	}
	k.taps = map[uint16]Tap{}
	for _, t := range w.Taps {
		t.Inspections = slices.DeleteFunc(slices.Clone(t.Inspections), func(name string) bool { return k.stores[name] == nil })
		if len(t.Inspections) > 0 {
			k.taps[t.Number] = t
		}
	}
	maps.DeleteFunc(k.active, func(key activeKey, a *active) bool {
		t, known := k.taps[key.tap]
		return !known || t.Direction != a.connection.Direction // the number is another's now
	})
	k.indexFragments()
	if len(k.taps) == 0 {
		k.ring, w.Interfaces = nil, nil
	} else if k.ring == nil {
		k.ring = newRing(k.opts.Recent)
	}
	for name, r := range k.readers {
		if !slices.Contains(w.Interfaces, name) {
			r.close()
			delete(k.readers, name)
		}
	}
	for _, name := range w.Interfaces {
		if k.readers[name] == nil {
			r := &reader{keeper: k, name: name, stop: make(chan struct{})}
			k.readers[name] = r
			k.running.Go(r.run)
		}
	}
	return errors.Join(errs...)
}

// removeOthers removes what is kept of inspections that are not wanted.
func (k *Keeper) removeOthers(wanted map[string]int64) error {
	dirs, err := filepath.Glob(filepath.Join(k.opts.Dir, "*", "*"))
	errs := []error{err}
	for _, dir := range dirs {
		name := filepath.Base(filepath.Dir(dir)) + "/" + filepath.Base(dir)
		if _, keep := wanted[name]; !keep {
			errs = append(errs, os.RemoveAll(dir))
			_ = os.Remove(filepath.Dir(dir)) // when it is empty
		}
	}
	return errors.Join(errs...)
}

// Alert keeps the connection that raised an alert, as far as it is of inspections whose packets are kept.
func (k *Keeper) Alert(tap uint16, inspections []string, c Connection) {
	number, known := protocolNumber(c.Protocol)
	if !known {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	t, watched := k.taps[tap]
	if !watched {
		return
	}
	key := activeKey{tap, flowOf(c.Source.Address, c.Destination.Address, number)}
	a := k.active[key]
	if a == nil {
		a = &active{connection: c, kept: map[string]int64{}}
		if len(k.active) < mostActive {
			k.active[key] = a
			k.addFragments(key)
		}
	}
	a.last = time.Now()
	for _, name := range t.Inspections {
		if _, already := a.kept[name]; already || !slices.Contains(inspections, name) {
			continue
		}
		a.kept[name] = 0
		k.ring.of(tap, key.flow, func(p packet) { k.keep(name, p, key, a) })
		k.failed(k.stores[name].flush())
	}
}

// take takes a packet in.
func (k *Keeper) take(p packet) {
	var ok bool
	if p.flow, ok = parse(p.frame); !ok || len(p.frame) > maxFrame {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, watched := k.taps[p.tap]; !watched || k.ring == nil {
		return
	}
	k.ring.add(p)
	keys := []activeKey{{p.tap, p.flow}}
	if p.flow.later {
		keys = k.fragments[keys[0]]
	}
	for _, key := range keys {
		a := k.active[key]
		if a == nil {
			continue
		}
		a.last = p.at
		for name := range a.kept {
			k.keep(name, p, key, a)
		}
	}
}

// keep writes a packet into an inspection's files, unless its connection has had its share.
func (k *Keeper) keep(name string, p packet, key activeKey, a *active) {
	s := k.stores[name]
	if s == nil || a.kept[name]+int64(len(p.frame)) > s.maxBytes/shareOfOne {
		return
	}
	a.kept[name] += int64(len(p.frame))
	k.failed(s.add(p, key, &a.connection))
}

// failed logs an error, once.
func (k *Keeper) failed(err error) {
	if err != nil && err.Error() != k.told {
		k.told = err.Error()
		k.opts.Log.Error(err, "Packets are not kept", "directory", k.opts.Dir)
	}
}

func (k *Keeper) addFragments(key activeKey) {
	without := activeKey{key.tap, key.flow.addresses()}
	k.fragments[without] = append(k.fragments[without], key)
}

func (k *Keeper) indexFragments() {
	clear(k.fragments)
	for key := range k.active {
		k.addFragments(key)
	}
}

// tend makes what was kept readable, and forgets connections that are over.
func (k *Keeper) tend() {
	tick := time.NewTicker(tendEvery)
	defer tick.Stop()
	for {
		select {
		case <-k.stop:
			return
		case <-tick.C:
		}
		k.mu.Lock()
		for _, s := range k.stores {
			k.failed(s.flush())
		}
		before := len(k.active)
		maps.DeleteFunc(k.active, func(_ activeKey, a *active) bool { return time.Since(a.last) > idleAfter })
		if len(k.active) < before {
			k.indexFragments()
		}
		k.mu.Unlock()
	}
}

// Close ends it. What is kept stays.
func (k *Keeper) Close() error {
	close(k.stop)
	k.mu.Lock()
	for name, r := range k.readers {
		r.close()
		delete(k.readers, name)
	}
	k.mu.Unlock()
	k.running.Wait()
	k.mu.Lock()
	defer k.mu.Unlock()
	var errs []error
	for _, s := range k.stores {
		errs = append(errs, s.close())
	}
	clear(k.stores)
	return errors.Join(errs...)
}

// reader reads an interface, also one that goes and comes back.
type reader struct {
	keeper *Keeper
	name   string
	stop   chan struct{}

	mu     sync.Mutex
	socket *socket
}

func (r *reader) close() {
	close(r.stop)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.socket != nil {
		r.socket.close()
	}
}

func (r *reader) run() {
	buf := make([]byte, maxFrame+etherHeader+tagSize)
	for {
		err := r.read(buf)
		select {
		case <-r.stop:
			return
		case <-time.After(tendEvery):
		}
		if err != nil {
			r.keeper.mu.Lock()
			r.keeper.failed(fmt.Errorf("interface %s: %w", r.name, err))
			r.keeper.mu.Unlock()
		}
	}
}

// read reads until the interface is gone, or the reader is closed.
func (r *reader) read(buf []byte) error {
	s, err := openSocket(r.keeper.opts.Netns, r.name)
	if err != nil {
		return err
	}
	r.mu.Lock()
	r.socket = s
	r.mu.Unlock()
	defer s.close()
	select {
	case <-r.stop:
		return nil
	default:
	}
	counted := time.Now()
	for {
		p, err := s.read(buf)
		if err != nil {
			return err
		}
		r.keeper.take(p)
		if time.Since(counted) > tendEvery {
			counted = time.Now()
			r.keeper.lost.Add(s.dropped())
		}
	}
}
