package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/observing"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/rollout"
	"github.com/meerkat-dev/meerkat/dataplane/verdict"
)

// labEvidence is a running lab. It writes all events, and loses none.
type labEvidence struct {
	client *lab.Client
	file   string
}

func (f *labFlags) evidence() *labEvidence {
	name := f.nameOr(defaultName)
	return &labEvidence{client: lab.NewClient(f.stateDir, name), file: lab.VerdictsFile(f.stateDir, name)}
}

func (l *labEvidence) policies(ctx context.Context, namespace string) ([]v1alpha1.L7Policy, error) {
	s, err := l.client.Status(ctx)
	if err != nil {
		return nil, exitError{exitUnable, err}
	}
	return slices.DeleteFunc(s.Policies, func(p v1alpha1.L7Policy) bool { return namespace != "" && p.Namespace != namespace }), nil
}

func (l *labEvidence) pods(ctx context.Context, _ string) []corev1.Pod {
	s, err := l.client.Objects(ctx)
	if err != nil {
		return nil
	}
	return s.Pods
}

func (l *labEvidence) events(_ context.Context, from time.Time, each func(*observing.Event)) ([]rollout.Gap, error) {
	file, err := os.Open(l.file)
	if err != nil {
		return nil, exitError{exitUnable, errors.New("no lab of that name runs: start one with 'meerkat lab up'")}
	}
	defer file.Close() //nolint:errcheck // it was read
	lines := json.NewDecoder(file)
	for {
		var v verdict.Event
		if err := lines.Decode(&v); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) { // the last line may be half written
			return nil, nil
		} else if err != nil {
			return nil, exitError{exitUnable, fmt.Errorf("the lab's events cannot be read: %w", err)}
		}
		filter, e := evidenceFilter(), observing.OfVerdict(&v)
		if !v.Time.Before(from) && filter.Matches(&e) {
			each(&e)
		}
	}
}

func newLabAudit(f *labFlags) *cobra.Command {
	return newAudit("lab ", "", func(*cobra.Command) {}, func() (evidenceSource, error) { return f.evidence(), nil })
}
