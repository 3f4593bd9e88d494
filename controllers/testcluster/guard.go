package testcluster

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"sigs.k8s.io/controller-runtime/pkg/envtest"
)

// guard is a process that stops the cluster's when the test dies without doing so, as at a test's time limit: it reads from a pipe
// that only the test holds open.
type guard struct {
	process *exec.Cmd
	pipe    io.WriteCloser
}

// watch ends in silence once it has read a line, and at the end of its input stops the processes whose ids are in the files, in
// their order.
const watch = `read -r line && exit
for f; do
	pid=$(cat "$f") && kill "$pid" || continue
	for i in 1 2 3 4 5 6 7 8 9 10; do kill -0 "$pid" || break; sleep 0.5; done
	kill -KILL "$pid"
done
rm -rf "$(dirname "$1")"
`

// newGuard has the control plane run the programs in such a way that they leave their process ids in the directory.
func newGuard(directory string, plane *envtest.ControlPlane, programs string) (*guard, error) {
	paths := map[string]string{}
	files := []string{}
	for _, name := range []string{"kube-apiserver", "etcd"} {
		wrapper, pid := filepath.Join(directory, name), filepath.Join(directory, name+".pid")
		text := fmt.Sprintf("#!/bin/sh\necho $$ >%s\nexec %s \"$@\"\n", quote(pid), quote(filepath.Join(programs, name)))
		if err := os.WriteFile(wrapper, []byte(text), 0o700); err != nil {
			return nil, err
		}
		paths[name], files = wrapper, append(files, pid)
	}
	data, certificates := filepath.Join(directory, "data"), filepath.Join(directory, "certificates")
	for _, made := range []string{data, certificates} {
		if err := os.Mkdir(made, 0o700); err != nil {
			return nil, err
		}
	}
	plane.GetAPIServer().Path, plane.GetAPIServer().CertDir = paths["kube-apiserver"], certificates
	plane.Etcd = &envtest.Etcd{Path: paths["etcd"], DataDir: data}
	plane.KubectlPath = filepath.Join(programs, "kubectl")

	g := &guard{process: exec.Command("sh", append([]string{"-c", watch, "guard"}, files...)...)}
	g.process.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt from the terminal is not for it
	pipe, err := g.process.StdinPipe()
	if err != nil {
		return nil, err
	}
	g.pipe = pipe
	return g, g.process.Start()
}

// dismiss ends the guard. The cluster is to be stopped before.
func (g *guard) dismiss() {
	_, _ = io.WriteString(g.pipe, "done\n")
	_ = g.pipe.Close()
	_ = g.process.Wait()
}

func quote(s string) string {
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
