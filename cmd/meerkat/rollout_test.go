package main

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
)

// TestRolloutRefuses gives the commands of a rollout what they cannot do anything with: each says what to write instead.
func TestRolloutRefuses(t *testing.T) {
	none := filepath.Join(t.TempDir(), "none")
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"audit shop/web", exitUsage, "See 'meerkat audit --help'"},
		{"audit --since -1h", exitUsage, "--since is how far to look back"},
		{"audit --since yesterday", exitUsage, "See 'meerkat audit --help'"},
		{"audit -o yaml", exitUsage, "is none of table, json"},
		{"audit --kubeconfig " + none, exitUsage, "set KUBECONFIG, or use --kubeconfig and --context"},
		{"promote", exitUsage, "See 'meerkat promote --help'"},
		{"promote web", exitUsage, "write NAMESPACE/NAME, such as shop/storefront"},
		{"promote shop/web/x", exitUsage, "write NAMESPACE/NAME"},
		{"promote shop/web --since 0s", exitUsage, "--since is how far to look back"},
		{"promote shop/web -o table2", exitUsage, "is none of table, json, yaml"},
		{"promote shop/web --kubeconfig " + none, exitUsage, "set KUBECONFIG, or use --kubeconfig and --context"},
		{"suggest", exitUsage, "See 'meerkat suggest --help'"},
		{"suggest shop/web --kubeconfig " + none, exitUsage, "set KUBECONFIG"},
		{"lab suggest web --name none", exitUsage, "write NAMESPACE/NAME, such as shop/web"},
		{"suggest shop/web --since 0s", exitUsage, "--since is how far to look back"},
		{"suggest shop/web --paths -1", exitUsage, "write 0 for any, or more"},
		{"suggest shop/web --scope Ports", exitUsage, "is none of NamedPorts, AllPorts"},
		{"lab suggest shop/web --name none --state-dir " + none, exitUnable, "start one with 'meerkat lab up'"},
		{"top -A -n shop", exitUsage, "write one of them"},
		{"top --sort size", exitUsage, "is none of denied, hits, cost, name"},
		{"top shop/web", exitUsage, "See 'meerkat top --help'"},
		{"lab top --name none --state-dir " + none, exitUnable, "start one with 'meerkat lab up'"},
		{"lab audit --name none --state-dir " + none, exitUnable, "start one with 'meerkat lab up'"},
	} {
		root := newRoot()
		root.SetArgs(strings.Fields(c.args))
		err := root.ExecuteContext(t.Context())
		failure, ok := errors.AsType[exitError](err)
		if !ok || failure.code != c.code || !strings.Contains(err.Error(), c.says) {
			t.Errorf("meerkat %s: got %v, want it to end with %d and say %q", c.args, err, c.code, c.says)
		}
	}
}
