package conflist

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containernetworking/cni/libcni"

	"github.com/meerkat-dev/meerkat/dataplane/cni/plugin"
)

const (
	listSuffix = ".conflist"
	// ownSuffix ends the names of lists of our own. A name with it comes before the one with just a dot in its place.
	ownSuffix = "-meerkat" + listSuffix
)

// candidate is a file that the runtime may use.
type candidate struct {
	path string
	text []byte
	// editable says that it is a list that may get our entry; others get a list of our own beside them.
	editable bool
	// versions are those of the CNI specification that it asks for.
	versions []string
}

// own is the path of the list of our own that stands for the candidate.
func (c candidate) own() string { return strings.TrimSuffix(c.path, filepath.Ext(c.path)) + ownSuffix }

// isConf says whether a runtime would look at a file of this name.
func isConf(name string) bool {
	return slices.Contains([]string{listSuffix, ".conf", ".json"}, filepath.Ext(name))
}

// isOwn says whether a file is a list of our own.
func isOwn(path string) bool {
	return strings.HasSuffix(path, ownSuffix) && mentions(path)
}

// first finds the file that the runtime uses: the lexically first valid one that is not ours. It is nil when there is none yet.
func first(dir string) (*candidate, error) {
	entries, err := os.ReadDir(dir) // sorted
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot look for the node's network configuration: %w", err)
	}
	for _, entry := range entries {
		path := filepath.Join(dir, entry.Name())
		if entry.IsDir() || !isConf(path) || isOwn(path) {
			continue
		}
		if c, err := read(path); err == nil {
			return c, nil
		}
	}
	return nil, nil
}

// read reads a file as a runtime does.
func read(path string) (*candidate, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	c := &candidate{path: path}
	if c.text, err = os.ReadFile(path); err != nil {
		return nil, err
	}
	if filepath.Ext(path) != listSuffix {
		single, err := libcni.NetworkPluginConfFromBytes(c.text)
		if err != nil {
			return nil, err
		}
		c.versions = []string{single.Network.CNIVersion}
		return c, nil
	}
	c.editable = info.Mode().IsRegular()
	list, err := libcni.NetworkConfFromBytes(c.text)
	if err != nil {
		return nil, err
	}
	if c.versions, err = versionsOf(c.text); err != nil {
		return nil, err
	}
	if len(list.Plugins) == 0 {
		if apart, err := libcni.NetworkPluginConfsFromFiles(filepath.Dir(path), list.Name); err != nil || len(apart) == 0 {
			return nil, errors.Join(errors.New("it has no plugins"), err)
		}
	}
	return c, nil
}

func versionsOf(text []byte) ([]string, error) {
	var list struct {
		CNIVersion  *string  `json:"cniVersion"`
		CNIVersions []string `json:"cniVersions"`
	}
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, err
	}
	if list.CNIVersion != nil || len(list.CNIVersions) == 0 {
		v := ""
		if list.CNIVersion != nil {
			v = *list.CNIVersion
		}
		list.CNIVersions = append(list.CNIVersions, v)
	}
	return list.CNIVersions, nil
}

// wanted gives the path and the content that the candidate is to have for our entry to be used.
func (c candidate) wanted(entry plugin.Conf) (path string, text []byte, err error) {
	path = c.path
	if !c.editable {
		path = c.own()
	}
	if text, err = c.withEntry(entry); err != nil {
		return "", nil, fmt.Errorf("%s cannot get an entry for %s, so that Pods are governed only a moment after they start: %w",
			c.path, plugin.Name, err)
	}
	return path, text, nil
}

func (c candidate) withEntry(entry plugin.Conf) ([]byte, error) {
	for _, v := range c.versions {
		if !slices.Contains(plugin.Versions(), v) {
			return nil, fmt.Errorf("it asks for version %q of the CNI specification, and %s speaks %s: set its cniVersion to one of "+
				"these", v, plugin.Name, strings.Join(plugin.Versions(), ", "))
		}
	}
	text := c.text
	if filepath.Ext(c.path) != listSuffix {
		var err error
		if text, err = listOf(c.text); err != nil {
			return nil, err
		}
	}
	edited, err := insert(text, entry)
	if err != nil {
		return nil, err
	}
	return edited, verify(text, edited)
}

// listOf makes a list of a single plugin's configuration, as runtimes do: the plugin's part is the whole text.
func listOf(text []byte) ([]byte, error) {
	var network struct {
		Name       json.RawMessage `json:"name"`
		CNIVersion json.RawMessage `json:"cniVersion"`
	}
	if err := json.Unmarshal(text, &network); err != nil {
		return nil, err
	}
	if network.Name == nil {
		return nil, errors.New("it has no name")
	}
	list := append([]byte("{\n\"cniVersion\": "), network.CNIVersion...)
	list = append(append(list, ",\n\"name\": "...), network.Name...)
	list = append(append(list, ",\n\"plugins\": [\n"...), text...)
	return append(list, "\n]}\n"...), nil
}

// verify makes sure that runtimes find in the edited list what was there before, and our entry.
func verify(before, after []byte) error {
	was, err := libcni.NetworkConfFromBytes(before)
	if err != nil {
		return err
	}
	is, err := libcni.NetworkConfFromBytes(after)
	if err != nil {
		return fmt.Errorf("with the entry it would not be valid: %w", err)
	}
	others := func(l *libcni.NetworkConfigList) (all []string) {
		for _, p := range l.Plugins {
			if p.Network.Type != plugin.Name {
				all = append(all, string(p.Bytes))
			}
		}
		return all
	}
	if is.Name != was.Name || is.CNIVersion != was.CNIVersion || !slices.Equal(others(was), others(is)) || !has(after) {
		return errors.New("with the entry it would say something else")
	}
	return nil
}
