package ovsdaemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/meerkat-dev/meerkat/dataplane/ownthread"
)

// Names of the two programs, as in their pid files.
const (
	dbProgram     = "ovsdb-server"
	switchProgram = "ovs-vswitchd"
)

const (
	// maxDir keeps the longest socket's path (ovs-vswitchd.<pid>.ctl) within the 107 bytes of a Unix socket address.
	maxDir = 75
	// readyTimeout bounds how long each daemon may take until it answers.
	readyTimeout = 20 * time.Second
	pollInterval = 5 * time.Millisecond
)

// Options say where a private Open vSwitch lives.
type Options struct {
	// Dir holds the database, the sockets, the pid files and the logs. It is made when it is not there; what an earlier run
	// left in it is replaced. Keep it short ("/tmp/mk1"): at most 75 bytes, since Unix socket addresses are short.
	Dir string
	// Programs are what Find found.
	Programs Programs
	// Netns is the path of the network namespace whose interfaces the switch uses ("/run/netns/lab", "/proc/42/ns/net").
	// Empty stands for the namespace of the calling process.
	Netns string
	// KernelDatapath lets ovs-vswitchd use the kernel module. It is off by default, since two vswitchds in one network
	// namespace that both use it destroy each other's ports; the userspace datapath (datapath_type=netdev) has no such trouble.
	KernelDatapath bool
	// Outlive lets the daemons live on when this process ends. End them with Stop or StopDir.
	Outlive bool
	// Log, when set, is told in a sentence what is done.
	Log func(sentence string)

	// console receives the daemons' logs instead of files in Dir; for Supervise.
	console io.Writer
}

// Daemons are a running ovsdb-server and ovs-vswitchd.
type Daemons struct {
	opts    Options
	switchd *process
	db      *process
}

// RunDir is the directory of the sockets and pid files: what OVS_RUNDIR must be for ovs-ofctl, ovs-vsctl and ovs-appctl.
func (d *Daemons) RunDir() string { return d.opts.Dir }

// DBSocket is the path of the database's socket.
func (d *Daemons) DBSocket() string { return filepath.Join(d.opts.Dir, "db.sock") }

// Programs are those that the daemons were started from.
func (d *Daemons) Programs() Programs { return d.opts.Programs }

// Command is one of Open vSwitch's programs that speaks with these daemons.
func (d *Daemons) Command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, d.opts.Programs.Path(program), args...)
	cmd.Env = append(os.Environ(), environment(d.opts.Dir)...)
	return cmd
}

func environment(dir string) []string {
	return []string{"OVS_RUNDIR=" + dir, "OVS_DBDIR=" + dir, "OVS_LOGDIR=" + dir, "OVS_SYSCONFDIR=" + dir}
}

// Start makes an empty database and starts both daemons. It returns once ovs-vswitchd has taken up its configuration. When it
// fails, nothing is left running, and the error carries the end of the failing program's log.
func Start(ctx context.Context, opts Options) (*Daemons, error) {
	if err := checkOptions(&opts); err != nil {
		return nil, err
	}
	if err := StopDir(opts.Dir); err != nil {
		return nil, err
	}
	if err := createDatabase(ctx, opts); err != nil {
		return nil, err
	}
	d := &Daemons{opts: opts}
	if err := d.start(ctx); err != nil {
		return nil, errors.Join(err, d.Stop())
	}
	d.log("Open vSwitch is running in " + opts.Dir)
	return d, nil
}

func checkOptions(opts *Options) error {
	dir, err := filepath.Abs(opts.Dir)
	if opts.Dir == "" || err != nil {
		return errors.New("a private Open vSwitch needs a directory: set Options.Dir")
	}
	if len(dir) > maxDir {
		return fmt.Errorf("the directory %s is %d bytes long, but Unix sockets in it allow only %d: choose a shorter one",
			dir, len(dir), maxDir)
	}
	opts.Dir = dir
	if opts.Netns != "" {
		if _, err := os.Stat(opts.Netns); err != nil {
			return fmt.Errorf("the network namespace for Open vSwitch is not there: %w", err)
		}
	}
	return os.MkdirAll(dir, 0o755)
}

func createDatabase(ctx context.Context, opts Options) error {
	db := filepath.Join(opts.Dir, "conf.db")
	for _, old := range []string{db, filepath.Join(opts.Dir, ".conf.db.~lock~")} {
		if err := os.Remove(old); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("removing an earlier run's database: %w", err)
		}
	}
	schema, err := schemaOf(opts.Programs)
	if err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, opts.Programs.Path("ovsdb-tool"), "create", db, schema).CombinedOutput()
	if err != nil {
		return fmt.Errorf("making the database %s: %w: %s", db, err, strings.TrimSpace(string(out)))
	}
	return nil
}

func schemaOf(p Programs) (string, error) {
	if p.Schema != "" {
		return p.Schema, nil
	}
	return schemaPath(p.Dir)
}

func (d *Daemons) start(ctx context.Context) error {
	var err error
	if d.db, err = d.spawnDB(); err != nil {
		return err
	}
	if err := d.waitFor(ctx, d.db, func() bool { return connects(d.DBSocket()) }); err != nil {
		return err
	}
	if err := d.vsctl(ctx, "--no-wait", "--", "init"); err != nil {
		return err
	}
	if d.switchd, err = d.spawnSwitch(); err != nil {
		return err
	}
	// This ovs-vsctl returns when the switch has read the database: from here on bridges can be made.
	return d.vsctl(ctx, "--timeout=20", "set", "Open_vSwitch", ".", "external-ids:owner=meerkat")
}

func (d *Daemons) spawnDB() (*process, error) {
	return d.spawn(dbProgram, filepath.Join(d.opts.Dir, "conf.db"), "--remote=punix:"+d.DBSocket())
}

func (d *Daemons) spawnSwitch() (*process, error) {
	args := []string{"unix:" + d.DBSocket(), "--disable-system-route"}
	if !d.opts.KernelDatapath {
		args = append(args, "--disable-system")
	}
	return d.spawn(switchProgram, args...)
}

// spawn starts a program in the foreground, in the namespace of the options.
func (d *Daemons) spawn(program string, args ...string) (*process, error) {
	dir := d.opts.Dir
	args = append(args, "--pidfile="+filepath.Join(dir, program+".pid"), "-vsyslog:off")
	if d.opts.console != nil {
		args = append(args, "-vconsole:info", "-vfile:off")
	} else {
		args = append(args, "--log-file="+filepath.Join(dir, program+".log"), "-vconsole:off")
	}
	name := d.opts.Programs.Path(program)
	if d.opts.Netns != "" {
		// nsenter replaces itself by the program: the process stays our child.
		args = append([]string{"--net=" + d.opts.Netns, "--", name}, args...)
		name = "nsenter"
	}
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), environment(dir)...)
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a terminal's Ctrl-C ends us, and we end them in order
	stderr := &head{}
	cmd.Stderr = stderr
	if d.opts.console != nil {
		cmd.Stderr = io.MultiWriter(stderr, d.opts.console)
	}
	cmd.WaitDelay = time.Second // should anybody else hold the pipe
	start := ownthread.Start
	if d.opts.Outlive {
		cmd.Stderr = nil // a pipe would end with us
		start = (*exec.Cmd).Start
	}
	p := &process{program: program, cmd: cmd, stderr: stderr, ended: make(chan struct{})}
	if err := start(cmd); err != nil {
		return nil, fmt.Errorf("starting %s: %w: run hack/install-deps.sh", program, err)
	}
	go p.wait()
	return p, nil
}

func (d *Daemons) waitFor(ctx context.Context, p *process, ready func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for !ready() {
		select {
		case <-p.ended:
			return fmt.Errorf("%s ended at once: %s", p.program, d.why(p))
		case <-ctx.Done():
			return fmt.Errorf("%s does not answer: %w: %s", p.program, ctx.Err(), d.why(p))
		case <-time.After(pollInterval):
		}
	}
	return nil
}

func (d *Daemons) vsctl(ctx context.Context, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	cmd := d.Command(ctx, "ovs-vsctl", args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		reason := strings.TrimSpace(string(out))
		if d.switchd != nil {
			reason += " " + d.why(d.switchd)
		}
		return fmt.Errorf("ovs-vsctl %s: %w: %s", strings.Join(args, " "), err, reason)
	}
	return nil
}

// why gives what the program said on its error output and at the end of its log.
func (d *Daemons) why(p *process) string {
	log, _ := os.ReadFile(filepath.Join(d.opts.Dir, p.program+".log"))
	const most = 600
	if len(log) > most {
		log = log[len(log)-most:]
	}
	return strings.TrimSpace(p.stderr.String() + "\n" + string(log))
}

func (d *Daemons) log(sentence string) {
	if d.opts.Log != nil {
		d.opts.Log(sentence)
	}
}

func connects(socket string) bool { return dial(context.Background(), socket) == nil }

// dial tells why nobody takes connections at the socket; nil when somebody does.
func dial(ctx context.Context, socket string) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err == nil {
		_ = conn.Close()
	}
	return err
}
