package engine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// DefaultLockDir holds the locks of interface pairs. All engines of a machine must share it: the lock protects only against
// those who look for it in the same place.
const DefaultLockDir = "/run/meerkat/locks"

// errLocked is returned by tryLock when somebody else holds the lock.
var errLocked = errors.New("locked")

// pairLockPath is where the lock of a pair of interfaces is: one name for a pair, in whichever order and by whatever path to
// its network namespace it is given.
func pairLockPath(dir string, netnsInode uint64, a, b string) string {
	if a > b {
		a, b = b, a
	}
	clean := strings.NewReplacer("/", "_", ".", "_")
	return filepath.Join(dir, fmt.Sprintf("engine-%d-%s-%s.lock", netnsInode, clean.Replace(a), clean.Replace(b)))
}

// tryLock takes the lock (flock) or returns errLocked. The lock lasts until every process that inherited the file has closed it.
func tryLock(path string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("cannot make the lock directory: %w", err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot open the lock: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errLocked
		}
		return nil, fmt.Errorf("cannot lock %s: %w", path, err)
	}
	return f, nil
}
