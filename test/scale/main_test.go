// Package scale_test measures the manager under a large cluster's objects: a real API server and the real manager process, with
// nodes whose reports are simulated. It asserts what the manager promises: one write at most for each slice that a change of a Pod
// touches, a second from a Pod's change to its slices, and statuses that are written when they turn and not with every report.
//
// The sizes of an ordinary run are a tenth; MEERKAT_SCALE=full has 1,000 nodes, 5,000 Pods, 500 policies and 200 selectors.
package scale_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/meerkat-dev/meerkat/controllers/testcluster"
)

// size is how large the cluster is.
type size struct {
	name                                         string
	nodes, pods, policies, selectors, namespaces int
	// changes is how many Pods change one by one, and burst how many at once.
	changes, burst int
	// floodSeconds is how long nodes report as fast as they can.
	floodSeconds int
	// Bars. The ordinary run shares its machine with other tests.
	p99Seconds  float64
	memoryBytes int64
}

func sizes() size {
	if os.Getenv("MEERKAT_SCALE") == "full" {
		return size{"full", 1000, 5000, 500, 200, 25, 300, 500, 75, 1, 256 << 20}
	}
	return size{"ordinary", 100, 500, 50, 20, 5, 60, 100, 10, 3, 192 << 20}
}

var (
	cluster *testcluster.Cluster
	// program is the manager's.
	program string
)

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	directory, err := os.MkdirTemp("", "meerkat-scale-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(directory)
	program = filepath.Join(directory, "manager")
	if out, err := exec.Command("go", "build", "-o", program, "../../cmd/manager").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building the manager: %v\n%s", err, out)
		return 1
	}
	return testcluster.Main(m, testcluster.Options{}, func(c *testcluster.Cluster) { cluster = c })
}
