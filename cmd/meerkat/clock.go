package main

import "time"

// newClock gives a function that tells the seconds since newClock was called.
func newClock() func() float64 {
	began := time.Now()
	return func() float64 { return time.Since(began).Seconds() }
}
