package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// pause gives the archive of the image that holds a Pod's namespaces.
func (c *cluster) pause(ctx context.Context) (string, error) {
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(root, "hack/images.sh"), "pause")
	cmd.Stderr = os.Stderr
	dir, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("building the pause image: %w", err)
	}
	return filepath.Join(string(dir[:max(len(dir)-1, 0)]), "pause.tar"), nil
}

// importImages loads archives on every node.
func (c *cluster) importImages(ctx context.Context, files []string) error {
	if len(files) == 0 {
		return errors.New("name the archives to import")
	}
	machines, err := c.machines()
	if err != nil {
		return err
	}
	delete(machines, controlPlane)
	if len(machines) == 0 {
		return fmt.Errorf("cluster %s has no running node; run 'up' first", c.name)
	}
	c.say("importing %d images on %s", len(files), names(machines))
	results := make(chan error, len(machines))
	for name, pid := range machines {
		go func() {
			for _, file := range files {
				if err := c.load(ctx, pid, file); err != nil {
					results <- fmt.Errorf("%s: %w", name, err)
					return
				}
			}
			results <- nil
		}()
	}
	for range machines {
		err = errors.Join(err, <-results)
	}
	return err
}

func (c *cluster) load(ctx context.Context, pid int, archive string) error {
	path, err := filepath.Abs(archive)
	if err != nil {
		return err
	}
	return poll(ctx, 30*time.Second, func() error { // containerd may be on its way
		file, err := os.Open(path)
		if err != nil {
			return final{err}
		}
		defer func() { _ = file.Close() }()
		cmd := inMachine(pid, "ctr", "--address", containerdSocket, "--namespace", "k8s.io", "images", "import", "-")
		cmd.Stdin = file
		_, err = output(cmd)
		return err
	})
}
