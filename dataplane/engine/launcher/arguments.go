package launcher

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// checkArguments refuses all but the few that Suricata is run with: a configuration in Dir, and EngineDir for what it writes.
func (p Place) checkArguments(args []string, check bool) error {
	var seen []string
	for i := 0; i < len(args); i++ {
		option := args[i]
		if slices.Contains(seen, option) {
			return fmt.Errorf("the argument %q comes twice", option)
		}
		seen = append(seen, option)
		switch option {
		case "-T", "--af-packet":
			continue
		case "-c", "-l":
		default:
			return fmt.Errorf("the argument %q is not allowed", option)
		}
		i++
		if i == len(args) {
			return fmt.Errorf("the argument %q needs a path", option)
		}
		if err := p.checkPath(option, args[i]); err != nil {
			return err
		}
	}
	switch {
	case !slices.Contains(seen, "-c") || !slices.Contains(seen, "-l"):
		return errors.New("the arguments need -c and -l")
	case check != slices.Contains(seen, "-T") || check == slices.Contains(seen, "--af-packet"):
		return errors.New("a check has the argument -T, and a start --af-packet")
	}
	return nil
}

func (p Place) checkPath(option, path string) error {
	dir := p.Dir()
	switch {
	case option == "-l" && path != p.EngineDir():
		return fmt.Errorf("the argument -l is %q, but only %q is allowed", path, p.EngineDir())
	case option == "-c" && (filepath.Clean(path) != path || !strings.HasPrefix(path, dir+"/") || strings.ContainsRune(path, 0) ||
		strings.HasPrefix(path, filepath.Join(dir, runDirectory)+"/")):
		return fmt.Errorf("the argument -c is %q, but only files in %s are allowed", path, dir)
	}
	return nil
}
