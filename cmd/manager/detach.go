package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

func newDetach() *cobra.Command {
	timeout := 10 * time.Minute
	c := &cobra.Command{
		Use:   "detach",
		Short: "Delete the Engine, and wait until every node has put its Pods' network back",
		Long: `detach deletes the Engine, and waits until every node has put its Pods' network back as it was found and nothing runs on nodes any
more. The manager must be running. Uninstall only after that: what is left on nodes without an Engine would be left there for good.`,
		Example: `  manager detach
  manager detach --timeout 30m --kubeconfig ~/.kube/config`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(c.Context(), timeout)
			defer cancel()
			return detach(ctx, c.OutOrStdout())
		},
	}
	c.Flags().DurationVar(&timeout, "timeout", timeout, "how long to wait; the Engine's own detachTimeout is a part of it")
	return c
}

func detach(ctx context.Context, out io.Writer) error {
	config, err := clusterConfig()
	if err != nil {
		return err
	}
	scheme, err := newScheme()
	if err != nil {
		return err
	}
	c, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return err
	}
	return deleteEngine(ctx, c, out)
}

// deleteEngine deletes the Engine and tells on out how it goes. No Engine, and no kind Engine either, are what is wanted.
func deleteEngine(ctx context.Context, c client.Client, out io.Writer) error {
	engine := &v1alpha1.Engine{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.EngineName}}
	if err := c.Delete(ctx, engine); gone(err) {
		fmt.Fprintln(out, "There is no Engine: nothing of Meerkat is on nodes.")
		return nil
	} else if err != nil {
		return fmt.Errorf("the Engine cannot be deleted: %w", err)
	}
	last := ""
	err := wait.PollUntilContextCancel(ctx, time.Second, true, func(ctx context.Context) (bool, error) {
		switch err := c.Get(ctx, client.ObjectKeyFromObject(engine), engine); {
		case gone(err):
			return true, nil
		case err != nil:
			tell(out, &last, "The API server does not answer: "+err.Error())
		default:
			if condition := meta.FindStatusCondition(engine.Status.Conditions, v1alpha1.ConditionProgressing); condition != nil {
				tell(out, &last, condition.Message)
			}
		}
		return false, nil
	})
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("the Engine is still being deleted (%s). See: kubectl describe engine %s. Is the manager running?",
			last, v1alpha1.EngineName)
	}
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "The Engine is gone: every node that was reached has put its Pods' network back.")
	return nil
}

func gone(err error) bool {
	return apierrors.IsNotFound(err) || meta.IsNoMatchError(err)
}

// tell writes a line when it is not the last one again.
func tell(out io.Writer, last *string, line string) {
	if line != *last {
		fmt.Fprintln(out, line)
		*last = line
	}
}
