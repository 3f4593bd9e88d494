package api_test

import (
	"flag"
	"os"
	"testing"

	"github.com/meerkat-dev/meerkat/controllers/testcluster"
)

var (
	update = flag.Bool("update", false, "rewrite the golden files")

	cluster *testcluster.Cluster
)

func TestMain(m *testing.M) {
	os.Exit(testcluster.Main(m, testcluster.Options{}, func(c *testcluster.Cluster) { cluster = c }))
}
