package plugin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/meerkat-dev/meerkat/dataplane/cni"
)

// withoutAgent decides by what the agent has left on the node and by the Pod's labels as the API server knows them. absent says
// why the agent was of no help.
func (c *call) withoutAgent(ctx context.Context, absent error) error {
	selectors, err := cni.ReadSelectors(c.conf.DataDir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil // no agent has ever run here
	case err != nil:
		return wait("Pod %s waits: %s. %v; %s", c.pod.Pod(), absent, err, c.remedy(cni.Credentials{}))
	case !selectors.In(c.pod.Namespace):
		return nil
	}
	credentials, err := cni.ReadCredentials(c.conf.RunDir)
	if policies := selectors.Certain(c.pod.Namespace); len(policies) > 0 {
		return c.selected(policies, absent, credentials)
	}
	var labels map[string]string
	if err == nil {
		labels, err = podLabels(ctx, credentials, c.pod)
	}
	if err != nil {
		return wait("Pod %s waits: %s may select it, with failurePolicy Closed, and whether it does cannot be told: %s, and %s. %s",
			c.pod.Pod(), named(selectors.Possible(c.pod.Namespace)), absent, err, c.remedy(credentials))
	}
	if policies := selectors.Matching(c.pod.Namespace, labels); len(policies) > 0 {
		return c.selected(policies, absent, credentials)
	}
	return nil
}

// selected is the error for a Pod that must be governed.
func (c *call) selected(policies []string, absent error, credentials cni.Credentials) error {
	return wait("Pod %s waits: %s selects it, with failurePolicy Closed, so it must not start ungoverned, and %s. %s",
		c.pod.Pod(), named(policies), absent, c.remedy(credentials))
}

// remedy says what to do about it.
func (c *call) remedy(credentials cni.Credentials) string {
	where := "-o wide"
	if credentials.Node != "" {
		where = "--field-selector spec.nodeName=" + credentials.Node
	}
	return fmt.Sprintf("The Pod starts by itself as soon as the agent runs; see why it does not: kubectl -n %s get pods %s",
		c.conf.Namespace, where)
}

// mostNamed is how many policies a message names.
const mostNamed = 3

func named(policies []string) string {
	text := "L7Policy " + strings.Join(policies[:min(len(policies), mostNamed)], ", ")
	if more := len(policies) - mostNamed; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}
