package launcher

import (
	"io"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/meerkat-dev/meerkat/dataplane/ownthread"
)

// child is a Suricata that the launcher started.
type child struct {
	Process
	cmd  *exec.Cmd
	said *output // the end of what it said, for the agent
	done chan struct{}
	exit Exit // valid once done is closed
}

// endGrace is how long Suricata may take to end in order; it needs 1.1 s.
const endGrace = 5 * time.Second

// engineOutput is how much is kept of what the engine says, and lastWords how much of it the agent is told; in bytes.
const (
	engineOutput = 64 << 10
	lastWords    = 16 << 10
)

// startEngine starts the engine, which keeps only the raw sockets' capabilities.
func (s *Server) startEngine(name string, args []string, nice int) (*child, error) {
	c := &child{said: &output{bound: engineOutput}, done: make(chan struct{})}
	c.cmd = s.command(args)
	c.cmd.Stdout = io.MultiWriter(c.said, s.Log)
	c.cmd.Stderr = c.cmd.Stdout
	if err := s.startOnOwnThread(c.cmd, engineCapabilities(), nice, func() {
		err := c.cmd.Wait()
		c.exit = exitOf(err)
		c.exit.Stderr = c.said.end(lastWords)
		s.say.Info("Suricata ended", "pid", c.cmd.Process.Pid, "how", c.exit.How)
		close(c.done)
	}); err != nil {
		return nil, err
	}
	c.Process = Process{Name: name, PID: c.cmd.Process.Pid, Started: time.Now()}
	return c, nil
}

func (s *Server) command(args []string) *exec.Cmd {
	cmd := exec.Command(s.Program, args...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	cmd.WaitDelay = time.Second // should anybody else hold the pipe
	// A session of its own: signals from a terminal are for the launcher, which ends the engine in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL} //nolint:forbidigo // startOnOwnThread has a thread for it
	if s.User != 0 {
		// The group stays root's: the agent reads and writes by it, without the right to pass over permissions.
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: s.User, NoSetGroups: true}
	}
	return cmd
}

// startOnOwnThread starts a program with few capabilities. The kernel sends the parent-death signal when the thread that started
// the program ends, so the thread waits for it; and it serves nobody else, since it has given up what the program must not have.
func (s *Server) startOnOwnThread(cmd *exec.Cmd, keep []uintptr, nice int, wait func()) error {
	started := make(chan error, 1)
	ownthread.Run(func() {
		err := DropPrivileges(keep...)
		if err == nil {
			err = BeNice(nice)
		}
		if err == nil {
			if s.User != 0 {
				cmd.SysProcAttr.AmbientCaps = held(keep)
			}
			err = s.Family.start(cmd)
		}
		started <- err
		if err == nil {
			wait()
			s.Family.ended(cmd)
		}
	})
	return <-started
}

// engineCapabilities are what the engine keeps: what AF_PACKET sockets take.
func engineCapabilities() []uintptr { return []uintptr{unix.CAP_NET_RAW} }

// held are those of the capabilities that this process has.
func held(capabilities []uintptr) []uintptr {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if unix.Capget(&header, &data[0]) != nil {
		return nil
	}
	var have []uintptr
	for _, c := range capabilities {
		if data[c/32].Permitted&(1<<(c%32)) != 0 {
			have = append(have, c)
		}
	}
	return have
}

// signal sends a signal; a process that is gone already is no error.
func (c *child) signal(sig syscall.Signal) error {
	select {
	case <-c.done:
		return nil
	default:
	}
	// The process is not waited for yet, or its number was not given to another: Signal tells the two apart.
	if err := c.cmd.Process.Signal(sig); err != nil && !isGone(err) {
		return err
	}
	return nil
}

// end asks the process to end, kills it after a while, and waits until it is gone.
func (c *child) end() {
	_ = c.signal(unix.SIGTERM)
	select {
	case <-c.done:
		return
	case <-time.After(endGrace):
	}
	_ = c.signal(unix.SIGKILL)
	<-c.done
}
