package launcher

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/meerkat-dev/meerkat/dataplane/ownthread"
)

// CacheDirectory is where Suricata keeps what it has compiled of rules, in EngineDir.
const CacheDirectory = "cache"

// maxCache is how much the cache may hold, in bytes and in files, when an engine is started; a larger one is removed. 40,000 rules take
// 18 MB; an engine removes what it does not use any more.
const (
	maxCache      = 256 << 20
	maxCacheFiles = 20000
)

// EmptyEngineDir removes what the Suricata before has left in the directory that it may write: sockets and logs, and the cache where fresh
// is set or it has grown too large. What is there may be anything.
func EmptyEngineDir(dir string, fresh bool) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close() //nolint:errcheck // read-only
	d, err := root.Open(".")
	if err != nil {
		return err
	}
	defer d.Close() //nolint:errcheck // read-only
	names, err := d.Readdirnames(-1)
	for _, name := range names {
		if name == CacheDirectory && !fresh && isSmallCache(root) {
			continue
		}
		err = errors.Join(err, root.RemoveAll(name))
	}
	return err
}

// emptyEngineDir does so as Suricata's user: what that has made, the launcher, which has no right to pass over permissions, could not remove.
func (s *Server) emptyEngineDir(fresh bool) error {
	done := make(chan error, 1)
	ownthread.Run(func() {
		if s.User != 0 {
			if _, err := unix.SetfsuidRetUid(int(s.User)); err != nil {
				done <- os.NewSyscallError("setfsuid", err)
				return
			}
		}
		done <- EmptyEngineDir(s.EngineDir(), fresh)
	})
	return <-done
}

// isSmallCache tells whether the cache is a directory of files, and of a size that may be.
func isSmallCache(root *os.Root) bool {
	info, err := root.Lstat(CacheDirectory)
	if err != nil || !info.IsDir() {
		return false
	}
	cache, err := root.OpenRoot(CacheDirectory)
	if err != nil {
		return false
	}
	defer cache.Close() //nolint:errcheck // read-only
	files, size := 0, int64(0)
	err = fs.WalkDir(cache.FS(), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == "." {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		files, size = files+1, size+info.Size()
		if !info.Mode().IsRegular() || files > maxCacheFiles || size > maxCache {
			return errNoCache
		}
		return nil
	})
	return err == nil
}

var errNoCache = errors.New("this is no cache")
