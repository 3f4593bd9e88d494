package launcher

import (
	"fmt"
	"path/filepath"
	"regexp"
)

// Names in the shared directory.
const (
	runDirectory    = "run"
	engineDirectory = "engine"
	socketName      = "launcher.sock"
	lockName        = "launcher.lock"
)

// Place is where an agent and a launcher meet. The launcher of a Name has Root/Name and Root/run/Name in place of Root and Root/run.
type Place struct {
	// Root is the directory that the two share: an absolute path of at most 80 bytes, the same for both.
	Root string
	// Name tells launchers of one Root apart; "" where there is only one.
	Name string
}

// Dir holds what the agent writes: the configuration and the rules.
func (p Place) Dir() string { return filepath.Join(p.Root, p.Name) }

// Socket is where the launcher listens.
func (p Place) Socket() string { return filepath.Join(p.run(), socketName) }

// EngineDir is where Suricata may write.
func (p Place) EngineDir() string { return filepath.Join(p.run(), engineDirectory) }

// run is what the launcher's container may write.
func (p Place) run() string { return filepath.Join(p.Root, p.below("")) }

// below is the path, from Root, of something in run.
func (p Place) below(name string) string { return filepath.Join(runDirectory, p.Name, name) }

var namePattern = regexp.MustCompile(`^[a-z0-9-]{0,16}$`)

func (p Place) check() error {
	if filepath.Clean(p.Root) != p.Root || !filepath.IsAbs(p.Root) || len(p.Root) > 80 {
		return fmt.Errorf("the directory %q must be an absolute path of at most 80 bytes", p.Root)
	}
	if !namePattern.MatchString(p.Name) || p.Name == runDirectory {
		return fmt.Errorf("the name %q must be of at most 16 small letters, digits and -, and not %q", p.Name, runDirectory)
	}
	return nil
}

// Socket is where the only launcher of a directory listens.
func Socket(dir string) string { return Place{Root: dir}.Socket() }

// PlaceOf is the place of the launcher that has a Dir and listens at a socket; false when there is none.
func PlaceOf(dir, socket string) (Place, bool) {
	for _, p := range []Place{{Root: dir}, {Root: filepath.Dir(dir), Name: filepath.Base(dir)}} {
		if p.Socket() == socket && p.check() == nil {
			return p, true
		}
	}
	return Place{}, false
}
