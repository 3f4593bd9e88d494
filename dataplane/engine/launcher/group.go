package launcher

import (
	"context"
	"errors"
	"io"
	"strconv"
	"sync"
)

// ValidateName is the name of the launcher that checks rules and runs no engine.
const ValidateName = "validate"

// SlotName is the name of the launcher of the signature engine in a slot.
func SlotName(slot uint8) string { return strconv.Itoa(int(slot)) }

// Group are launchers of one process.
type Group []*Server

// SignatureLaunchers are those of signature engines, one for each slot from 1, and the one that checks rules, all in a directory. Each
// runs Suricata as a user of its own, from first on, so that an engine that strangers have taken over cannot signal or trace another;
// 0 stands for the launcher's own user.
func SignatureLaunchers(root, program string, slots uint8, first uint32, log io.Writer) Group {
	log = &lockedWriter{w: log}
	family := &Family{}
	var g Group
	add := func(name string) {
		s := &Server{Place: Place{Root: root, Name: name}, Program: program, Log: &taggedWriter{tag: name, to: log}, Family: family}
		if first != 0 {
			s.User = first + uint32(len(g))
		}
		g = append(g, s)
	}
	for slot := range slots {
		add(SlotName(slot + 1))
	}
	add(ValidateName)
	return g
}

// Run runs all of them until the context ends. When one cannot go on, all end.
func (g Group) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make([]error, len(g))
	var all sync.WaitGroup
	for i, s := range g {
		all.Go(func() {
			defer cancel()
			errs[i] = s.Run(ctx)
		})
	}
	all.Wait()
	return errors.Join(errs...)
}
