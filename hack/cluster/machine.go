package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// service is a program that a machine keeps running.
type service struct {
	Name string   `json:"name"`
	Args []string `json:"args"`
}

// machineConfig is what a machine's first process reads at its start, from config.json of the machine's directory.
type machineConfig struct {
	Hostname string `json:"hostname"`
	// Node says whether the machine runs containers, and thus needs a file system of its own.
	Node bool `json:"node"`
	// Memory keeps a node's images and containers in memory: importing images takes a third of the time.
	Memory bool `json:"memory,omitempty"`
	// Keep are directories of the host that the machine sees where they are, whatever covers their place.
	Keep []string `json:"keep,omitempty"`
	// Forward is where connections to the inherited listener go, when there is one.
	Forward string `json:"forward,omitempty"`
}

// Files of a machine's directory by which it and the command line talk.
const (
	configFile   = "config.json"
	readyFile    = "ready"         // the machine's namespaces are prepared
	servicesFile = "services.json" // what it shall run
	stoppedFile  = ".stopped"      // SERVICE.stopped: keep this service stopped
	runningFile  = ".running"      // SERVICE.running: this service runs
)

// supervisor is the first process of a machine: it starts the machine's services again when they end, and buries orphans.
type supervisor struct {
	dir string

	mu       sync.Mutex
	services map[string]*supervised
}

type supervised struct {
	service
	pid     int       // 0 while it does not run
	resting time.Time // not before this time is it started again
}

func runMachine(dir string) error {
	if os.Getpid() != 1 {
		return errors.New("'machine' is what 'up' starts in namespaces of its own; it is not for use by hand")
	}
	var config machineConfig
	if err := readJSON(filepath.Join(dir, configFile), &config); err != nil {
		return err
	}
	if config.Forward != "" {
		listener, err := net.FileListener(os.NewFile(3, "listener"))
		if err != nil {
			return err
		}
		go forward(listener, config.Forward)
	}
	if err := prepare(dir, config); err != nil {
		return fmt.Errorf("preparing the machine: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, readyFile), nil, 0o600); err != nil {
		return err
	}
	s := &supervisor{dir: dir, services: map[string]*supervised{}}
	go s.bury()
	for ; ; time.Sleep(50 * time.Millisecond) {
		s.step()
	}
}

// bury waits for every child: services, and orphans that became the first process's.
func (s *supervisor) bury() {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		if err != nil {
			time.Sleep(20 * time.Millisecond)
			continue
		}
		s.mu.Lock()
		for _, svc := range s.services {
			if svc.pid == pid {
				svc.pid, svc.resting = 0, time.Now().Add(500*time.Millisecond)
				_ = os.Remove(filepath.Join(s.dir, svc.Name+runningFile))
				fmt.Fprintf(os.Stderr, "%s %s ended: %v\n", time.Now().Format(time.RFC3339), svc.Name, status)
			}
		}
		s.mu.Unlock()
	}
}

// step brings what runs nearer to what shall run.
func (s *supervisor) step() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.services) == 0 {
		var wanted []service
		if readJSON(filepath.Join(s.dir, servicesFile), &wanted) != nil {
			return // not yet written
		}
		for _, svc := range wanted {
			s.services[svc.Name] = &supervised{service: svc}
		}
	}
	for _, svc := range s.services {
		_, err := os.Stat(filepath.Join(s.dir, svc.Name+stoppedFile))
		switch stopped := err == nil; {
		case stopped && svc.pid != 0:
			_ = syscall.Kill(svc.pid, syscall.SIGTERM)
		case !stopped && svc.pid == 0 && time.Now().After(svc.resting):
			s.start(svc)
		}
	}
}

func (s *supervisor) start(svc *supervised) {
	log, err := os.OpenFile(filepath.Join(s.dir, "log", svc.Name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	defer func() { _ = log.Close() }()
	null, err := os.Open(os.DevNull)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	defer func() { _ = null.Close() }()
	process, err := os.StartProcess(svc.Args[0], svc.Args, &os.ProcAttr{
		Dir:   "/",
		Env:   []string{"PATH=" + os.Getenv("PATH"), "HOME=/root", "LC_ALL=C"},
		Files: []*os.File{null, log, log},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		svc.resting = time.Now().Add(time.Second)
		fmt.Fprintf(os.Stderr, "%s: %v\n", svc.Name, err)
		return
	}
	svc.pid = process.Pid
	_ = process.Release() // bury waits for it
	_ = os.WriteFile(filepath.Join(s.dir, svc.Name+runningFile), nil, 0o600)
}

// forward joins connections of a listener, which is in the host's network, to an address in the machine's.
func forward(listener net.Listener, address string) {
	for {
		client, err := listener.Accept()
		if err != nil {
			fmt.Fprintln(os.Stderr, "forward:", err)
			return
		}
		go func() {
			defer func() { _ = client.Close() }()
			server, err := net.DialTimeout("tcp", address, 5*time.Second)
			if err != nil {
				return
			}
			defer func() { _ = server.Close() }()
			done := make(chan struct{}, 2)
			for _, way := range [][2]net.Conn{{client, server}, {server, client}} {
				go func() {
					_, _ = io.Copy(way[0], way[1])
					if tcp, ok := way[0].(*net.TCPConn); ok {
						_ = tcp.CloseWrite()
					}
					done <- struct{}{}
				}()
			}
			<-done
			<-done
		}()
	}
}

func readJSON(path string, into any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, into)
}

// writeJSON writes a file whole or not at all.
func writeJSON(path string, value any) error {
	data, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return writeFile(path, data, 0o600)
}

func writeFile(path string, data []byte, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", data, mode); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
