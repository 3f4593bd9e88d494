package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/meerkat-dev/meerkat/dataplane/capture"
)

// pcapFlags are those of both commands that read packets out.
type pcapFlags struct {
	since time.Duration
	pods  []string
	node  string
	out   string
}

func (f *pcapFlags) add(c *cobra.Command) {
	c.Flags().DurationVar(&f.since, "since", 0, "only packets of the last so many minutes or hours: 10m, 2h (default: all that is kept)")
	c.Flags().StringSliceVar(&f.pods, "pod", nil, "only connections of this Pod of the inspection's namespace, or NAMESPACE/POD; may be repeated")
	c.Flags().StringVar(&f.node, "node", "", "only what this node has kept")
	c.Flags().StringVarP(&f.out, "write", "w", "-", "file to write; - is the standard output")
}

// inspectionOf reads NAMESPACE/NAME.
func inspectionOf(text string) (namespace, name string, err error) {
	namespace, name, ok := strings.Cut(text, "/")
	if !ok || namespace == "" || name == "" || strings.Contains(name, "/") {
		return "", "", usageError(fmt.Errorf("%q is no inspection: write NAMESPACE/NAME of a TrafficInspection, such as shop/watch", text))
	}
	return namespace, name, nil
}

// check reads the flags; Pods without a namespace are of the inspection's.
func (f *pcapFlags) check(namespace string) error {
	if f.since < 0 {
		return usageError(fmt.Errorf("--since %s: is in the future; write how far to look back, such as 10m", f.since))
	}
	for i, pod := range f.pods {
		if pod == "" || strings.Count(pod, "/") > 1 || strings.HasPrefix(pod, "/") || strings.HasSuffix(pod, "/") {
			return usageError(fmt.Errorf("--pod %q: write the name of a Pod, or NAMESPACE/POD", pod))
		}
		if !strings.Contains(pod, "/") {
			f.pods[i] = namespace + "/" + pod
		}
	}
	if f.out == "-" && term.IsTerminal(int(os.Stdout.Fd())) {
		return usageError(errors.New("packets are nothing for a terminal: write a file with -w FILE, or pipe them, as in '| tcpdump -nr -'"))
	}
	return nil
}

func (f *pcapFlags) query(now time.Time) capture.Query {
	q := capture.Query{Pods: f.pods}
	if f.since > 0 {
		q.Since = now.Add(-f.since)
	}
	return q
}

// write has something written to where the packets go. A file is there in the end only when all went well.
func (f *pcapFlags) write(do func(io.Writer) (capture.Summary, error)) (capture.Summary, error) {
	if f.out == "-" {
		return do(os.Stdout)
	}
	file, err := os.OpenFile(f.out+".part", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600) // packets hold what Pods send, as it is
	if err != nil {
		return capture.Summary{}, usageError(fmt.Errorf("-w %s: %w", f.out, err))
	}
	sum, err := do(file)
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(f.out+".part", f.out)
	}
	if err != nil {
		_ = os.Remove(f.out + ".part")
	}
	return sum, err
}

// tell says what was written.
func (f *pcapFlags) tell(sum capture.Summary) {
	if sum.Packets == 0 {
		fmt.Fprintln(os.Stderr, "no packets are kept that match: connections are kept from the moment that capture is enabled and when a signature matches")
		return
	}
	fmt.Fprintf(os.Stderr, "%d packets, %d bytes\n", sum.Packets, sum.Bytes)
}

// readDirs reads an inspection's packets out of the directories of nodes on this machine, one after the other, and merges them.
func readDirs(ctx context.Context, dirs []string, q capture.Query, w io.Writer) (capture.Summary, error) {
	if len(dirs) == 1 {
		return capture.Read(ctx, dirs[0], q, w)
	}
	scratch, err := os.MkdirTemp("", "meerkat-pcap-")
	if err != nil {
		return capture.Summary{}, err
	}
	defer os.RemoveAll(scratch) //nolint:errcheck // temporary
	var files []string
	for i, dir := range dirs {
		file, err := os.Create(fmt.Sprintf("%s/%d", scratch, i)) //nolint:gosec // a directory of our own
		if err != nil {
			return capture.Summary{}, err
		}
		_, err = capture.Read(ctx, dir, q, file)
		if err = errors.Join(err, file.Close()); err != nil {
			return capture.Summary{}, err
		}
		files = append(files, file.Name())
	}
	return capture.Merge(ctx, files, w)
}
