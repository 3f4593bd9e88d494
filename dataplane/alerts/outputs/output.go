package outputs

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
)

// sink takes events to where they go. It is used by one goroutine, but for close.
type sink interface {
	// batch tells how many events, and bytes, deliver takes at once, and how long the first may wait for more.
	batch() (events, bytes int, delay time.Duration)
	// deliver delivers events in order, and tells how many of the first ones are delivered. The others are tried again, unless the
	// error is a refusal.
	deliver(ctx context.Context, events [][]byte) (delivered int, err error)
	// check tells whether the output would take events, as far as that can be known without one.
	check(ctx context.Context) error
	// close gives up whatever deliver is doing.
	close() error
}

// refusal is the error about events that it makes no sense to send again: the first ones of those that were not delivered.
type refusal struct {
	reason Reason
	events int
	err    error
}

func (r *refusal) Error() string { return r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

// output is one output: its buffer, and the goroutine that empties it.
type output struct {
	config Config
	sink   sink
	log    logr.Logger
	queue  chan []byte
	// waiting counts the bytes of events that are in the queue or being delivered.
	waiting atomic.Int64
	// taken counts the events that the goroutine has and that are neither delivered nor lost.
	taken atomic.Int64
	done  chan struct{} // closed when the goroutine has ended
	left  chan struct{} // closed when an output that was taken away is over, delivered or not
	// over says that what waits is counted as lost already.
	over atomic.Bool

	lost map[Reason]prometheus.Counter
	sent prometheus.Counter

	wrong    atomic.Pointer[string] // why it takes no events at present; nil when it does
	lastLost atomic.Int64           // in Unix nanoseconds
	why      atomic.Pointer[Reason] // of the last loss
}

func (o *output) lose(reason Reason, n int) {
	if n == 0 {
		return
	}
	o.lost[reason].Add(float64(n))
	o.why.Store(&reason)
	o.lastLost.Store(time.Now().UnixNano())
}

// fault is why it takes no events; empty when it does.
func (o *output) fault() string {
	if text := o.wrong.Load(); text != nil {
		return *text
	}
	return ""
}

func (o *output) setFault(err error) {
	if err == nil {
		o.wrong.Store(nil)
		return
	}
	text := err.Error()
	o.wrong.Store(&text)
}

// losing says that it lost events of late; empty when it did not.
func (o *output) losing(now time.Time) string {
	at := o.lastLost.Load()
	if at == 0 || now.Sub(time.Unix(0, at)) >= losingFor {
		return ""
	}
	switch *o.why.Load() {
	case BufferFull:
		return "it takes events more slowly than they come, and some are lost: let it take more, or have the signatures and policies tell of less"
	case TooLarge:
		return "some events are larger than it takes, and lost"
	case Refused:
		return "it refuses some events, which are lost: see what the server logs of them"
	case TooMany:
		return ""
	case NotDelivered, Stopped:
	}
	return "it was away for too long, and events are lost"
}

// offer puts an event into the buffer, or loses it.
func (o *output) offer(event []byte) {
	size := int64(len(event))
	if o.waiting.Add(size) > int64(o.config.Bytes) {
		o.waiting.Add(-size)
		o.lose(BufferFull, 1)
		return
	}
	select {
	case o.queue <- event:
	default:
		o.waiting.Add(-size)
		o.lose(BufferFull, 1)
	}
}

// checkEvery is how often an output that gets no events is checked.
const checkEvery = 30 * time.Second

// run delivers until the queue is closed and empty, or ctx ends.
func (o *output) run(ctx context.Context) {
	defer close(o.done)
	o.check(ctx)
	for {
		batch, over := o.gather(ctx)
		switch {
		case len(batch) > 0:
			o.deliver(ctx, batch)
		case over:
			return
		default:
			o.check(ctx)
		}
	}
}

// check finds out whether the output would take events, unless some wait: then it is seen soon enough.
func (o *output) check(ctx context.Context) {
	if len(o.queue) > 0 || ctx.Err() != nil {
		return
	}
	if err := o.sink.check(ctx); ctx.Err() == nil {
		if err != nil && o.fault() != err.Error() {
			o.log.Info("the output would take no events", "error", err.Error())
		}
		o.setFault(err)
	}
}

// gather waits for events and takes as many as go together: none when nothing came for checkEvery. When over, there will be no more.
func (o *output) gather(ctx context.Context) (batch [][]byte, over bool) {
	most, room, delay := o.sink.batch()
	late := time.After(checkEvery)
	for len(batch) < most && room > 0 {
		event, more := []byte(nil), true
		select { // what is there, goes
		case event, more = <-o.queue:
		default:
			if len(batch) > 0 && delay == 0 {
				return batch, false
			}
			select {
			case event, more = <-o.queue:
			case <-late:
				return batch, false
			case <-ctx.Done():
				return batch, true
			}
		}
		if !more {
			return batch, true
		}
		o.taken.Add(1)
		if len(batch) == 0 {
			late = time.After(delay)
		}
		batch = append(batch, event)
		room -= len(event)
	}
	return batch, false
}

// deliver delivers a batch, trying again what fails, or loses it.
func (o *output) deliver(ctx context.Context, batch [][]byte) {
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval, wait.MaxInterval = 50*time.Millisecond, 10*time.Second
	failing := time.Time{} // since when
	finish := func(n int, count func(int)) {
		for _, event := range batch[:n] {
			o.waiting.Add(-int64(len(event)))
		}
		batch = batch[n:]
		o.taken.Add(-int64(n))
		if !o.over.Load() {
			count(n)
		}
	}
	for len(batch) > 0 {
		if ctx.Err() != nil {
			finish(len(batch), func(n int) { o.lose(Stopped, n) })
			return
		}
		delivered, err := o.sink.deliver(ctx, batch)
		finish(delivered, func(n int) { o.sent.Add(float64(n)) })
		if delivered > 0 || err == nil {
			if !failing.IsZero() {
				o.log.Info("the output takes events again", "after", time.Since(failing).Round(time.Millisecond).String())
			}
			failing = time.Time{}
			wait.Reset()
			o.setFault(nil)
		}
		if err == nil || len(batch) == 0 {
			continue
		}
		if refused, ok := errors.AsType[*refusal](err); ok {
			o.log.Info("events are lost: the output refuses them", "events", refused.events, "reason", refused.reason, "error", err.Error())
			finish(min(refused.events, len(batch)), func(n int) { o.lose(refused.reason, n) })
			continue
		}
		o.setFault(err)
		if failing.IsZero() {
			failing = time.Now()
			o.log.Info("the output takes no events; they wait and are tried again", "error", err.Error())
		}
		if time.Since(failing) >= o.config.RetryFor {
			o.log.Info("events are lost: the output took none for too long", "events", len(batch), "error", err.Error())
			finish(len(batch), func(n int) { o.lose(NotDelivered, n) })
			return
		}
		pause := wait.NextBackOff()
		if asked, ok := errors.AsType[*retryAfter](err); ok {
			pause = max(pause, min(asked.wait, time.Minute))
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// retryAfter is an error that says when to try again.
type retryAfter struct {
	wait time.Duration
	error
}

func (r *retryAfter) Unwrap() error { return r.error }

// await waits until the closed queue is delivered, or ctx has ended; then what waits is lost.
func (o *output) await(ctx context.Context) error {
	defer close(o.left)
	select {
	case <-o.done:
	case <-ctx.Done():
		_ = o.sink.close() // ends whatever it is doing
		select {
		case <-o.done:
		case <-time.After(stopGrace): // it hangs where nothing can end it: in a write to the standard output
		}
	}
	o.over.Store(true) // from here on, nobody else counts what is left
	left := len(o.queue) + int(o.taken.Load())
	if left > 0 {
		o.lose(Stopped, left)
		return fmt.Errorf("output %s: %d events were not delivered", o.config.Name, left)
	}
	return o.sink.close()
}
