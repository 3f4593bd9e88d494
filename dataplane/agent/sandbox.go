package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/dataplane/cni"
)

// sandbox is what the CNI plugin has told of a Pod's network namespace. It is newer than the Pod's status, and says surely which
// namespace is the Pod's.
type sandbox struct {
	Namespace   string       `json:"namespace"`
	Name        string       `json:"name"`
	UID         types.UID    `json:"uid"`
	ContainerID string       `json:"containerID"`
	Netns       string       `json:"netns"`
	Interface   string       `json:"interface"`
	Addresses   []netip.Addr `json:"addresses"`
	// Inode tells the namespace from a later one at the same path.
	Inode uint64 `json:"inode"`
	// Ended says that nothing runs in it any more.
	Ended bool `json:"ended,omitempty"`
}

// sandboxes remembers them, also across restarts of the agent: it keeps a file, which does not outlive the machine's next start, as
// the namespaces do not.
type sandboxes struct {
	path string

	mu      sync.Mutex
	byUID   map[types.UID]sandbox
	stopped bool // the file is not to come back
}

const sandboxesFile = "sandboxes.json"

// loadSandboxes reads what an earlier agent knew.
func loadSandboxes(stateDir string) (*sandboxes, error) {
	s := &sandboxes{path: filepath.Join(stateDir, sandboxesFile), byUID: map[types.UID]sandbox{}}
	text, err := os.ReadFile(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &s.byUID)
	}
	if err != nil {
		return s, fmt.Errorf("what the CNI plugin told an earlier agent cannot be read, Pods are found by their addresses instead: %w", err)
	}
	return s, nil
}

// add notes a sandbox that has been made.
func (s *sandboxes) add(r cni.Request, uid types.UID) (sandbox, error) {
	made := sandbox{
		Namespace: r.Namespace, Name: r.Name, UID: uid, ContainerID: r.ContainerID, Netns: runPath(r.Netns), Interface: r.Interface,
	}
	for _, a := range r.Addresses {
		made.Addresses = append(made.Addresses, a.Addr().Unmap())
	}
	inode, err := inodeOf(made.Netns)
	if err != nil {
		return made, fmt.Errorf("the Pod's network namespace %s cannot be seen: %w", r.Netns, err)
	}
	made.Inode = inode
	s.mu.Lock()
	defer s.mu.Unlock()
	s.byUID[uid] = made
	return made, s.save()
}

// end notes that nothing runs in a sandbox any more, and gives it; false for one that is not the Pod's present one.
func (s *sandboxes) end(r cni.Request) (sandbox, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for uid, have := range s.byUID {
		if have.ContainerID == r.ContainerID && have.Interface == r.Interface {
			have.Ended = true
			s.byUID[uid] = have
			_ = s.save() // an agent that starts again finds the namespace gone
			return have, true
		}
	}
	return sandbox{}, false
}

// replaced tells whether a Pod is known to run in another sandbox than the one that is told of.
func (s *sandboxes) replaced(r cni.Request) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, have := range s.byUID {
		if have.Namespace == r.Namespace && have.Name == r.Name && !have.Ended && have.ContainerID != r.ContainerID {
			return true
		}
	}
	return false
}

// present gives the sandboxes whose namespaces are there, and those that have ended while their Pods are still known. keep says
// whether a Pod is known; what is neither is forgotten.
func (s *sandboxes) present(keep func(types.UID) bool) map[types.UID]sandbox {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := len(s.byUID)
	for uid, have := range s.byUID {
		if have.Ended && keep(uid) {
			continue
		}
		if inode, err := inodeOf(have.Netns); have.Ended || err != nil || inode != have.Inode || !keep(uid) {
			delete(s.byUID, uid)
		}
	}
	if len(s.byUID) != before {
		_ = s.save() // what is too much in the file is found to be gone again
	}
	return maps.Clone(s.byUID)
}

// stop writes nothing any more.
func (s *sandboxes) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
}

// save writes the file; mu is held.
func (s *sandboxes) save() error {
	if s.stopped {
		return nil
	}
	text, err := json.Marshal(s.byUID)
	if err != nil {
		return err
	}
	return writeWhole(s.path, text)
}

// writeWhole replaces a file as a whole: a reader finds the old one or the new one.
func writeWhole(path string, text []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		return errors.Join(err, os.Remove(path+".new"))
	}
	return os.Rename(path+".new", path)
}

// runPath writes a path below /var/run, which is a link to /run on every node and not in every image, as one below /run.
func runPath(path string) string {
	if rest, err := filepath.Rel("/var/run", path); err == nil && filepath.IsLocal(rest) {
		return filepath.Join("/run", rest)
	}
	return path
}

// inodeOf names a network namespace.
func inodeOf(path string) (uint64, error) {
	var s unix.Stat_t
	if err := unix.Stat(path, &s); err != nil {
		return 0, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	return s.Ino, nil
}
