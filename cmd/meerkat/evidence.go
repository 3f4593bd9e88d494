package main

import (
	"context"
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/observing"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/rollout"
)

// evidenceSource is where audit, promote and suggest have what they know from: a cluster, or a lab.
type evidenceSource interface {
	// policies are those of a namespace, or all of them for "".
	policies(ctx context.Context, namespace string) ([]v1alpha1.L7Policy, error)
	// pods are all Pods, as far as they may be read: those of a namespace where those of all may not. They only serve names.
	pods(ctx context.Context, namespace string) []corev1.Pod
	// events gives what was denied or would have been, and what was lost, from a time on, and tells what is missing.
	events(ctx context.Context, from time.Time, each func(*observing.Event)) ([]rollout.Gap, error)
}

// sinceFlag is how far back evidence is asked for.
const defaultSince = time.Hour

func checkSince(since time.Duration) error {
	if since <= 0 {
		return usageError(errors.New("--since is how far to look back: write a duration, such as 1h"))
	}
	return nil
}

// evidence are the filters that leave nothing but evidence.
func evidenceFilter() observing.Filter { return observing.Filter{Verdicts: []string{"deny", "audit"}} }
