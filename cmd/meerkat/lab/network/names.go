package network

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/meerkat-dev/meerkat/dataplane/attach/netspace"
)

// Parts of the names of a lab's namespaces: mk-<lab>-<part>….
const (
	namePrefix = "mk-"
	wirePart   = "wire"
	nodePart   = "node-"
	podPart    = "pod-"
	// longestName is what a namespace's name is cut to, of a file name's 255 bytes.
	longestName = 200
)

var (
	labName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`)
	// reserved would make a namespace's name belong to two labs.
	reserved = regexp.MustCompile(`-(wire|node|pod)(-|$)`)
)

func checkName(lab string) error {
	if !labName.MatchString(lab) || reserved.MatchString(lab) {
		return fmt.Errorf("%q cannot be a lab's name: use 1 to 32 lower-case letters, digits and hyphens, without -wire, -node "+
			"and -pod, which divide the names of its namespaces", lab)
	}
	return nil
}

// spaceName gives the name of a namespace of a lab. One that is too long for a file keeps its beginning and ends in a hash.
func spaceName(lab, part string) string {
	name := namePrefix + lab + "-" + part
	if len(name) > longestName {
		name = name[:longestName] + "-" + shortHash(name)
	}
	return name
}

// spacesOf lists the names of a lab's namespaces.
func spacesOf(lab string) ([]string, error) {
	beginning := spaceName(lab, "")
	names, err := netspace.List(beginning)
	if err != nil {
		return nil, err
	}
	var own []string
	for _, name := range names {
		part := strings.TrimPrefix(name, beginning)
		if part == wirePart || strings.HasPrefix(part, nodePart) || strings.HasPrefix(part, podPart) {
			own = append(own, name)
		}
	}
	return own, nil
}

// List names the labs that exist on this machine, running or not, sorted.
func List() ([]string, error) {
	names, err := netspace.List(namePrefix)
	if err != nil {
		return nil, err
	}
	var labs []string
	for _, name := range names {
		lab, ok := strings.CutSuffix(strings.TrimPrefix(name, namePrefix), "-"+wirePart)
		if ok && checkName(lab) == nil {
			labs = append(labs, lab)
		}
	}
	return labs, nil
}
