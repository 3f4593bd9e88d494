package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/meerkat-dev/meerkat/dataplane/capture"
)

// TestPcapRefuses gives both commands what they cannot do anything with: each says what to write instead, with the exit code for that.
func TestPcapRefuses(t *testing.T) {
	none := filepath.Join(t.TempDir(), "none")
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"pcap watch", exitUsage, "write NAMESPACE/NAME of a TrafficInspection, such as shop/watch"},
		{"pcap shop/watch/x", exitUsage, "write NAMESPACE/NAME"},
		{"pcap", exitUsage, "See 'meerkat pcap --help'"},
		{"pcap shop/watch --since -1m", exitUsage, "write how far to look back"},
		{"pcap shop/watch --since yesterday", exitUsage, "See 'meerkat pcap --help'"},
		{"pcap shop/watch --pod a/b/c", exitUsage, "write the name of a Pod, or NAMESPACE/POD"},
		{"pcap shop/watch -w x --kubeconfig " + none, exitUsage, "set KUBECONFIG, or use --kubeconfig and --context"},
		{"lab pcap watch", exitUsage, "write NAMESPACE/NAME"},
		{"lab pcap shop/watch -w x --name none --state-dir " + none, exitUnable, "start one with 'meerkat lab up'"},
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

// TestPcapWrites writes a file only when all went well, and one that nobody else may read.
func TestPcapWrites(t *testing.T) {
	f := &pcapFlags{out: filepath.Join(t.TempDir(), "alerts.pcap"), pods: []string{"web", "bank/vault"}, since: time.Minute}
	if err := f.check("shop"); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	if q := f.query(now); strings.Join(q.Pods, " ") != "shop/web bank/vault" || !q.Since.Equal(now.Add(-time.Minute)) {
		t.Errorf("the query is %+v", q)
	}
	_, err := f.write(func(w io.Writer) (capture.Summary, error) {
		_, _ = io.WriteString(w, "half")
		return capture.Summary{}, errors.New("broken")
	})
	if left, _ := os.ReadDir(filepath.Dir(f.out)); err == nil || len(left) > 0 {
		t.Errorf("after an error (%v) there is %v", err, left)
	}
	if _, err := f.write(func(w io.Writer) (capture.Summary, error) {
		_, err := io.WriteString(w, "whole")
		return capture.Summary{Packets: 1}, err
	}); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(f.out)
	if err != nil || info.Size() != 5 || info.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v, %v", info, err)
	}
}
