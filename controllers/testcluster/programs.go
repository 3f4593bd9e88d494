package testcluster

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// repository finds the repository's root from the working directory, which is the tested package's.
func repository() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for directory := start; ; directory = filepath.Dir(directory) {
		if _, err := os.Stat(filepath.Join(directory, script)); err == nil {
			return directory, nil
		}
		if directory == filepath.Dir(directory) {
			return "", fmt.Errorf("no %s above %s: run the tests inside Meerkat's repository", script, start)
		}
	}
}

const script = "hack/kube/build.sh"

// findPrograms returns the directory with etcd, kube-apiserver and kubectl. It builds those that are missing.
func findPrograms(root string) (string, error) {
	if directory := os.Getenv("KUBEBUILDER_ASSETS"); directory != "" {
		return directory, nil
	}
	var printed bytes.Buffer
	build := exec.Command(filepath.Join(root, script), "etcd", "kube-apiserver", "kubectl")
	build.Stdout, build.Stderr = &printed, os.Stderr
	if err := build.Run(); err != nil {
		return "", fmt.Errorf("%s, which builds etcd and kube-apiserver for tests: %w", script, err)
	}
	directory := strings.TrimSpace(printed.String())
	if directory == "" {
		return "", errors.New(script + " did not say where the programs are")
	}
	return directory, nil
}
