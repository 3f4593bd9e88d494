package agent

import (
	"context"
	"encoding/json"
	"path/filepath"
	"reflect"
	"strings"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/alerts"
	"github.com/meerkat-dev/meerkat/dataplane/alerts/outputs"
	"github.com/meerkat-dev/meerkat/dataplane/verdict"
)

// Reasons of the condition EventsDelivered.
const (
	ReasonDelivered      = "Delivered"
	ReasonNotDelivered   = "NotDelivered"
	ReasonOutputsRefused = "OutputsRefused"
)

const (
	// outputsEvery is how often the Engine's outputs are compared with those that there are: a look into the informer.
	outputsEvery = time.Second
	// outputsGrace is how long an agent that ends waits for outputs to take what they have.
	outputsGrace = 3 * time.Second
	// plainOutput is the name that the standard output has in metrics where the Engine names no outputs.
	plainOutput = "stdout"
)

// eventOutputs are where alerts and verdicts go: to the Engine's outputs, or, as long as it names none, to the standard output, at most
// so many a second.
type eventOutputs struct {
	forwarder *outputs.Forwarder
	secret    *authorizations
	// plain says that the Engine names no outputs.
	plain atomic.Bool
	limit limiter
	// refused is why the Engine's outputs are not followed; those before go on then.
	refused atomic.Pointer[string]
}

// Events as they are written: kind tells them apart.
type (
	verdictLine struct {
		Kind string `json:"kind"`
		verdict.Event
	}
	alertLine struct {
		Kind string `json:"kind"`
		alerts.Event
	}
	// lostLine says how many events were not written since the line before.
	lostLine struct {
		Kind string    `json:"kind"`
		Time time.Time `json:"time"`
		Node string    `json:"node"`
		Lost uint64    `json:"lost"`
	}
)

// newEventOutputs starts with the standard output.
func newEventOutputs(cfg Config) (*eventOutputs, error) {
	o := &eventOutputs{secret: &authorizations{cfg.Namespace, cfg.OutputsSecretDir}}
	o.plain.Store(true)
	var plain []outputs.Config
	if cfg.Verdicts != nil {
		plain = plainConfig()
	}
	var err error
	o.forwarder, err = outputs.New(plain, outputs.Options{Log: cfg.Log.WithName("outputs"), Stdout: cfg.Verdicts, Authorization: o.secret.value})
	return o, err
}

func plainConfig() []outputs.Config {
	return []outputs.Config{{Name: plainOutput, Stdout: &outputs.Stdout{}}}
}

// tell sends an event. It never waits for an output.
func (a *Agent) tell(event any) {
	o := a.outputs
	if o.plain.Load() {
		now := time.Now()
		allowed, before := o.limit.take(now)
		if !allowed {
			o.forwarder.Lose(outputs.TooMany)
			return
		}
		if before > 0 {
			o.send(lostLine{"lost", now, a.cfg.Node, before})
		}
	}
	o.send(event)
}

func (o *eventOutputs) send(event any) {
	if text, err := json.Marshal(event); err == nil {
		o.forwarder.Send(text)
	}
}

// followOutputs makes the outputs those of the Engine until ctx ends, and delivers what waits then.
func (a *Agent) followOutputs(ctx context.Context) {
	var seen *v1alpha1.EventOutputs
	tick := time.NewTicker(outputsEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), outputsGrace)
			defer cancel()
			if err := a.outputs.forwarder.Close(last); err != nil {
				a.cfg.Log.Info("Events are lost, since the agent ends", "error", err.Error())
			}
			return
		case <-tick.C:
		}
		if !a.heard.Load() {
			continue
		}
		var e v1alpha1.Engine
		if a.cluster.cache.Get(ctx, client.ObjectKey{Name: v1alpha1.EngineName}, &e) != nil {
			continue // without an Engine, things stay as they are until the agent is told to end
		}
		if seen != nil && reflect.DeepEqual(*seen, e.Spec.Outputs) {
			continue
		}
		wanted := e.Spec.Outputs
		seen = &wanted
		a.setOutputs(wanted)
	}
}

// setOutputs makes the outputs what the Engine says, unless something is wrong with that.
func (a *Agent) setOutputs(wanted v1alpha1.EventOutputs) {
	o := a.outputs
	configs := outputConfigs(wanted, a.cfg.EventLogDir)
	if len(wanted) == 0 && a.cfg.Verdicts != nil {
		configs = plainConfig()
	}
	if err := o.forwarder.Set(configs); err != nil {
		text := err.Error()
		o.refused.Store(&text)
		a.cfg.Log.Info("The Engine's outputs cannot be used; those before go on", "error", text)
		return
	}
	o.refused.Store(nil)
	o.plain.Store(len(wanted) == 0)
	a.cfg.Log.V(1).Info("Events go to other outputs", "outputs", len(wanted))
}

// outputConfigs are the Engine's outputs as package outputs has them.
func outputConfigs(all v1alpha1.EventOutputs, dir string) []outputs.Config {
	configs := make([]outputs.Config, 0, len(all))
	for _, o := range all {
		c := outputs.Config{Name: o.Name}
		if o.Stdout != nil {
			c.Stdout = &outputs.Stdout{}
		}
		if f := o.File; f != nil {
			c.File = &outputs.File{Path: filepath.Join(dir, f.Name), MaxSize: int(f.MaxSizeMiB), MaxFiles: int(f.MaxFiles), Compress: f.Compress}
		}
		if s := o.Syslog; s != nil {
			c.Syslog = &outputs.Syslog{Address: s.Address, Transport: outputs.Transport(s.Transport), CABundle: []byte(s.CABundle)}
			if s.Transport == "" {
				c.Syslog.Transport = outputs.TLS
			}
			if s.Facility != nil {
				facility := int(*s.Facility)
				c.Syslog.Facility = &facility
			}
		}
		if h := o.HTTP; h != nil {
			c.HTTP = &outputs.HTTP{
				URL: h.URL, AuthorizationKey: h.AuthorizationKey, BatchEvents: int(h.BatchEvents), Gzip: h.Gzip, CABundle: []byte(h.CABundle),
			}
			if h.BatchDelay != nil {
				c.HTTP.BatchDelay = max(h.BatchDelay.Duration, time.Millisecond) // 0 stands for the default there
			}
		}
		configs = append(configs, c)
	}
	return configs
}

// outputsCondition says whether the Engine's outputs take the events; nil where the Engine names none.
func (a *Agent) outputsCondition() *metav1.Condition {
	o := a.outputs
	delivered := condition(v1alpha1.ConditionEventsDelivered, true, ReasonDelivered, "all outputs take the node's alerts and verdicts")
	if text := o.refused.Load(); text != nil {
		delivered = condition(v1alpha1.ConditionEventsDelivered, false, ReasonOutputsRefused,
			"the Engine's outputs cannot be used, and those before go on; correct "+*text)
		return &delivered
	}
	if o.plain.Load() {
		return nil
	}
	var wrong []string
	for _, f := range o.forwarder.Faults() {
		wrong = append(wrong, "output "+f.Output+": "+f.Error)
	}
	if len(wrong) > 0 {
		delivered = condition(v1alpha1.ConditionEventsDelivered, false, ReasonNotDelivered,
			strings.Join(wrong, ". ")+". What is lost, the metric meerkat_event_output_lost_total counts")
	}
	return &delivered
}
