package engine

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// The engine's directory may be open to the engine itself, which parses what strangers send. So what is written and read there
// goes by a file descriptor of the directory, and symbolic links that lead out of it are refused.

// maxFile bounds files that are read back, in bytes: the largest is a manifest.
const maxFile = 1 << 20

// writeFile writes a file below dir; its name may have directories.
func writeFile(dir, name string, content []byte) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close() //nolint:errcheck // read-only
	return root.WriteFile(name, content, 0o640)
}

// readFile reads a file below dir.
func readFile(dir, name string) ([]byte, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close() //nolint:errcheck // read-only
	// Opening a pipe must not wait for its other end.
	f, err := root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // read-only
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s in %s is no file", name, dir)
	}
	return io.ReadAll(io.LimitReader(f, maxFile))
}
