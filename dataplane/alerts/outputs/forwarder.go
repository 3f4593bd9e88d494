package outputs

import (
	"cmp"
	"context"
	"errors"
	"io"
	"os"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Forwarder sends each event to every output. It is a prometheus.Collector.
type Forwarder struct {
	opts   Options
	ctx    context.Context
	cancel context.CancelFunc

	mu      sync.RWMutex // held to write while outputs change, or close
	outputs []*output
	closed  bool
	leaving sync.WaitGroup // outputs that were taken away and are not done yet

	lost, sent *prometheus.CounterVec
}

// Options are what outputs need and their configurations do not say.
type Options struct {
	Log logr.Logger
	// Stdout is the standard output; os.Stdout by default.
	Stdout io.Writer
	// Authorization gives what HTTP.AuthorizationKey stands for. The error says what to do; events wait meanwhile.
	Authorization func(key string) (string, error)
}

// Reason says why events were lost.
type Reason string

// Reasons.
const (
	// BufferFull: they came faster than the output takes them, or it takes none.
	BufferFull Reason = "buffer_full"
	// TooLarge: the output takes no event of that size.
	TooLarge Reason = "too_large"
	// Refused: the server said that it will never take them.
	Refused Reason = "refused"
	// NotDelivered: they were tried again for as long as the output says.
	NotDelivered Reason = "not_delivered"
	// Stopped: they waited still when the output was taken away or the forwarder closed, or came after that.
	Stopped Reason = "stopped"
	// TooMany: there were more than may be written where no outputs are configured.
	TooMany Reason = "too_many"
)

// Reasons are all of them.
func Reasons() []Reason {
	return []Reason{BufferFull, TooLarge, Refused, NotDelivered, Stopped, TooMany}
}

// New starts the outputs. It needs no server to be there. The error has everything that is wrong with the configuration.
func New(configs []Config, opts Options) (*Forwarder, error) {
	f := &Forwarder{
		opts: opts,
		lost: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "meerkat_event_output_lost_total", Help: "Events that an output could not deliver, by output and reason.",
		}, []string{"output", "reason"}),
		sent: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "meerkat_event_output_sent_total", Help: "Events that an output delivered.",
		}, []string{"output"}),
	}
	if f.opts.Stdout == nil {
		f.opts.Stdout = os.Stdout
	}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	if err := f.Set(configs); err != nil {
		f.cancel()
		return nil, err
	}
	return f, nil
}

// Set makes the outputs those of the configurations. One that stays as it is goes on undisturbed. One that is taken away, or has
// another configuration now, has leaveGrace to deliver what waits; the rest is lost, and counted. The error has everything that is wrong
// with the configurations; then nothing changes.
func (f *Forwarder) Set(configs []Config) error {
	if errs := Check(field.NewPath("spec", "outputs"), configs); len(errs) > 0 {
		return errs.ToAggregate()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return errors.New("the outputs are closed")
	}
	before := f.outputs
	stays := map[*output]bool{}
	var now, fresh []*output
	for _, c := range configs {
		c = c.withDefaults()
		if i := slices.IndexFunc(before, func(o *output) bool { return reflect.DeepEqual(o.config, c) }); i >= 0 {
			stays[before[i]] = true
			now = append(now, before[i])
			continue
		}
		o, err := f.newOutput(c)
		if err != nil {
			return err
		}
		now, fresh = append(now, o), append(fresh, o)
	}
	f.outputs = now
	var gone []*output
	for _, o := range before {
		if !stays[o] {
			close(o.queue)
			gone = append(gone, o)
			f.leaving.Go(func() {
				ctx, cancel := context.WithTimeout(f.ctx, leaveGrace)
				defer cancel()
				if err := o.await(ctx); err != nil {
					o.log.Info("events are lost: the output was changed or taken away", "error", err.Error())
				}
			})
		}
	}
	for _, o := range fresh {
		// Two must not write one file, nor one line into another.
		var first []*output
		for _, g := range gone {
			if g.config.place() != "" && g.config.place() == o.config.place() {
				first = append(first, g)
			}
		}
		go func() {
			for _, g := range first {
				<-g.left
			}
			o.run(f.ctx)
		}()
	}
	return nil
}

func (f *Forwarder) newOutput(c Config) (*output, error) {
	s, err := newSink(c, f.opts)
	if err != nil {
		return nil, err
	}
	o := &output{
		config: c, sink: s, log: f.opts.Log.WithValues("output", c.Name), queue: make(chan []byte, c.Events), done: make(chan struct{}),
		left: make(chan struct{}), sent: f.sent.WithLabelValues(c.Name), lost: map[Reason]prometheus.Counter{},
	}
	for _, r := range Reasons() {
		o.lost[r] = f.lost.WithLabelValues(c.Name, string(r)) // there from the beginning, as 0
	}
	return o, nil
}

// Send gives an event, a JSON object in one line without the newline, to every output. It never blocks. The bytes must not change
// afterwards.
func (f *Forwarder) Send(event []byte) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	for _, o := range f.outputs {
		if f.closed {
			o.lose(Stopped, 1)
			continue
		}
		o.offer(event)
	}
}

// Lose counts an event that was not sent to any output.
func (f *Forwarder) Lose(reason Reason) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	for _, o := range f.outputs {
		o.lost[reason].Inc()
	}
}

// Fault says what is wrong with an output.
type Fault struct {
	Output string
	// Error says what to do.
	Error string
}

// Faults gives the outputs that do not take events, or lost some within the last minute, in the order of their configurations.
func (f *Forwarder) Faults() []Fault {
	f.mu.RLock()
	defer f.mu.RUnlock()
	var all []Fault
	for _, o := range f.outputs {
		if text := cmp.Or(o.fault(), o.losing(time.Now())); text != "" {
			all = append(all, Fault{o.config.Name, text})
		}
	}
	return all
}

// Close delivers what waits, until ctx ends; the rest is lost, and counted. The error names outputs of which some is.
func (f *Forwarder) Close(ctx context.Context) error {
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		return nil
	}
	f.closed = true
	for _, o := range f.outputs {
		close(o.queue)
	}
	f.mu.Unlock()
	stop := context.AfterFunc(ctx, f.cancel)
	defer stop()
	defer f.cancel()
	var errs []error
	for _, o := range f.outputs {
		errs = append(errs, o.await(ctx))
	}
	f.leaving.Wait()
	return errors.Join(errs...)
}

// Describe implements prometheus.Collector.
func (f *Forwarder) Describe(d chan<- *prometheus.Desc) {
	f.lost.Describe(d)
	f.sent.Describe(d)
}

// Collect implements prometheus.Collector.
func (f *Forwarder) Collect(m chan<- prometheus.Metric) {
	f.lost.Collect(m)
	f.sent.Collect(m)
}

const (
	// stopGrace is how long an output that was told to stop may take to do so.
	stopGrace = 500 * time.Millisecond
	// leaveGrace is how long an output that was taken away may go on with what waits.
	leaveGrace = 5 * time.Second
	// losingFor is how long after a loss an output counts as one that loses events.
	losingFor = time.Minute
)
