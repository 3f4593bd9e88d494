package main

import (
	"context"
	"os"
	"strconv"
	"sync"
	"time"
)

// ratePatience is how long a request may take, its connection included, until it counts as lost.
const ratePatience = 2 * time.Second

// rated is what came of requests at a fixed rate.
type rated struct {
	Sent     int `json:"sent"`
	Answered int `json:"answered"`
	Lost     int `json:"lost"`
	// First and Last are when the first and the last request that was lost were sent, in milliseconds since the beginning.
	First int64 `json:"first,omitempty"`
	Last  int64 `json:"last,omitempty"`
}

// rate sends a request so many times a second, each on a connection of its own and whatever became of those before, until a file is
// there, and prints what came of them.
func rate(ctx context.Context, address, line, perSecond, until string) error {
	n, err := strconv.Atoi(perSecond)
	if err != nil || n < 1 {
		return errWrongArguments
	}
	var (
		wg  sync.WaitGroup
		mu  sync.Mutex
		all rated
	)
	began := time.Now()
	tick := time.NewTicker(time.Second / time.Duration(n))
	defer tick.Stop()
	for ctx.Err() == nil {
		<-tick.C
		if _, err := os.Stat(until); err == nil {
			break
		}
		sent := time.Since(began)
		wg.Go(func() {
			c := &client{address: address, timeout: ratePatience}
			defer c.close()
			got := c.do(ctx, line)
			mu.Lock()
			defer mu.Unlock()
			all.Sent++
			if got.Status != 0 {
				all.Answered++
				return
			}
			if all.Lost++; all.First == 0 || sent.Milliseconds() < all.First {
				all.First = sent.Milliseconds()
			}
			all.Last = max(all.Last, sent.Milliseconds())
		})
	}
	wg.Wait()
	print(all)
	return nil
}
