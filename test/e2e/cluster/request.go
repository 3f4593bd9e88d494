package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
)

// Result is what came of a request that a Pod sent.
type Result struct {
	Request string `json:"request"`
	// Status is the server's answer, or 0 when there was none.
	Status int `json:"status"`
	// Error says why there was none.
	Error string `json:"error"`
}

// Requests lets a client Pod (NAMESPACE/NAME, of the workload image) send requests, each "METHOD PATH", on one connection; a new one
// is opened after each that fails.
func (c *Cluster) Requests(ctx context.Context, pod, address string, requests ...string) ([]Result, error) {
	out, err := c.InPod(ctx, pod, append([]string{"workload", "request", address}, requests...)...)
	if err != nil {
		return nil, err
	}
	var all []Result
	for line := range strings.Lines(out) {
		var r Result
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			return nil, fmt.Errorf("%s printed %q: %w", pod, line, err)
		}
		all = append(all, r)
	}
	if len(all) != len(requests) {
		return nil, fmt.Errorf("%s told of %d requests and not of %d:\n%s", pod, len(all), len(requests), out)
	}
	return all, nil
}
