package plan_test

import (
	"flag"
	"os"
	"testing"
)

// TestMain raises the number of random cases, unless the command line says another.
func TestMain(m *testing.M) {
	if err := flag.Set("rapid.checks", "1000"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}
