package main

import (
	"context"
	"sync"
	"time"
)

// Of load.
const (
	holders = 4                      // connections that stay open
	pace    = 20 * time.Millisecond  // between two requests of a connection
	stalled = 500 * time.Millisecond // an answer that took longer is counted as a stall
)

// counts is what load prints each second, and at its end: sums since the start.
type counts struct {
	// Allowed were answered, Failed were not; each failure costs a connection.
	Allowed int `json:"allowed"`
	Failed  int `json:"failed"`
	// New are connections opened for each request, that were answered, and NewFailed those that were not.
	New       int `json:"new"`
	NewFailed int `json:"newFailed"`
	// Denied are forbidden requests without an answer; Passed are those that a server answered.
	Denied int `json:"denied"`
	Passed int `json:"passed"`
	// LongestMs is the longest time in which a held connection got no answer.
	LongestMs int64 `json:"longestMs"`
}

// load sends allowed requests on connections that stay open and on new ones, and forbidden ones on new ones, until it is told to end.
func load(ctx context.Context, address, allowed, denied string) error {
	var mu sync.Mutex
	var sum counts
	count := func(f func(*counts)) {
		mu.Lock()
		defer mu.Unlock()
		f(&sum)
	}
	var wg sync.WaitGroup
	for range holders {
		wg.Go(func() { hold(ctx, address, allowed, count) })
	}
	wg.Go(func() { open(ctx, address, allowed, count) })
	wg.Go(func() { forbidden(ctx, address, denied, count) })
	for ctx.Err() == nil {
		pause(ctx, time.Second)
		count(func(c *counts) { print(c) })
	}
	wg.Wait()
	print(sum)
	return nil
}

func hold(ctx context.Context, address, line string, count func(func(*counts))) {
	c := &client{address: address, timeout: 30 * time.Second}
	defer c.close()
	last := time.Now()
	for ctx.Err() == nil {
		r := c.do(ctx, line)
		if ctx.Err() != nil {
			return
		}
		count(func(s *counts) {
			if r.Error == "" {
				s.Allowed++
			} else {
				s.Failed++
			}
			s.LongestMs = max(s.LongestMs, time.Since(last).Milliseconds())
		})
		if r.Error == "" {
			last = time.Now()
		}
		pause(ctx, pace)
	}
}

func open(ctx context.Context, address, line string, count func(func(*counts))) {
	for ctx.Err() == nil {
		c := &client{address: address, timeout: stalled}
		r := c.do(ctx, line)
		c.close()
		if ctx.Err() != nil {
			return
		}
		count(func(s *counts) {
			if r.Error == "" {
				s.New++
			} else {
				s.NewFailed++
			}
		})
		pause(ctx, pace)
	}
}

func forbidden(ctx context.Context, address, line string, count func(func(*counts))) {
	for ctx.Err() == nil {
		c := &client{address: address, timeout: stalled}
		r := c.do(ctx, line)
		c.close()
		if ctx.Err() != nil {
			return
		}
		count(func(s *counts) {
			if r.Status == 0 {
				s.Denied++
			} else {
				s.Passed++
			}
		})
		pause(ctx, pace)
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
