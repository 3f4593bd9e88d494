package enginecheck

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/engine"
	"github.com/meerkat-dev/meerkat/dataplane/signatures"
)

// What a check may take. 40,000 rules take 11 s of the processor and 0.4 GB; signatures.MaxRules of them, three times that.
const (
	Timeout      = 5 * time.Minute
	maxProcessor = 240     // seconds
	maxMemory    = 8 << 30 // bytes of address space
	maxWritten   = 1 << 20 // bytes of each file
)

// Report is what the engine says of a result.
type Report struct {
	// Loaded, Failed and Skipped are how many rules the engine takes, refuses, and leaves out since they require what it does not
	// have. Together they are all of the result.
	Loaded, Failed, Skipped int
	// Failures are the first signatures.MaxFailures of those that failed, by the sources' own lines.
	Failures []v1alpha1.RuleFailure
}

// Add puts together what was refused before and what the engine says, as a RuleSet's status tells it.
func (r *Report) Add(built *signatures.Result) (v1alpha1.RuleCounts, []v1alpha1.RuleFailure) {
	counts := v1alpha1.RuleCounts{
		Loaded: int32(r.Loaded), Failed: int32(r.Failed + built.Counts.Refused), Skipped: int32(r.Skipped), Disabled: int32(built.Counts.Disabled),
	}
	failures := append(append([]v1alpha1.RuleFailure{}, built.Refused...), r.Failures...)
	return counts, failures[:min(len(failures), signatures.MaxFailures)]
}

// Check has a Suricata of its own load the rules, in a private directory, by the settings of those engines that will run them. It
// forwards no packet, writes nothing that stays, and has bounds for its memory and time. The error tells that it is not known whether
// the rules are good; what is wrong with rules is in the Report.
func Check(ctx context.Context, binary engine.Binary, built *signatures.Result, v signatures.Vars) (*Report, error) {
	dir, err := os.MkdirTemp("", "meerkat-check-")
	if err != nil {
		return nil, fmt.Errorf("cannot check rules: %w", err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // nothing that is worth a word
	args, err := Prepare(engine.RuleCheck{Dir: dir}, built, v)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	said := &listener{origins: built.Lines}
	err = run(ctx, binary, dir, args, said)
	return said.judge(built, false, err)
}

// Prepare writes into a directory what a check needs, and gives the arguments that Suricata is to be run with to its end.
func Prepare(c engine.RuleCheck, built *signatures.Result, v signatures.Vars) (args []string, err error) {
	variables, err := v.YAML()
	if err != nil {
		return nil, fmt.Errorf("cannot check rules: %w", err)
	}
	args, err = c.Prepare(engine.Rules{Detect: built.Rules, Variables: variables})
	if err != nil {
		return nil, fmt.Errorf("cannot check rules: %w", err)
	}
	return args, nil
}

// Judge reads what that Suricata said, on standard output and then on standard error or in any mixture of lines, and how it ended. Where
// something of that is missing (cut), the beginning and the end must be there. The error tells that it is not known whether the rules are
// good.
func Judge(built *signatures.Result, output io.Reader, cut bool, ended error) (*Report, error) {
	said := &listener{origins: built.Lines}
	said.listen(output)
	return said.judge(built, cut, ended)
}

// run runs "suricata -T" to its end and hands what it says to the listener, line by line: 100,000 bad rules make 100 MB of it.
func run(ctx context.Context, binary engine.Binary, dir string, args []string, said *listener) error {
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer read.Close() //nolint:errcheck // a pipe
	cmd := exec.CommandContext(ctx, binary.Path, args...)
	cmd.Dir, cmd.Env = dir, []string{}
	cmd.Stdout, cmd.Stderr = write, write
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	write.Close() //nolint:errcheck // the child has its own
	if err != nil {
		return err
	}
	// It takes some milliseconds until it reads the first rule.
	var limits []error
	for resource, most := range map[int]uint64{unix.RLIMIT_AS: maxMemory, unix.RLIMIT_CPU: maxProcessor, unix.RLIMIT_FSIZE: maxWritten, unix.RLIMIT_CORE: 0} {
		limits = append(limits, unix.Prlimit(cmd.Process.Pid, resource, &unix.Rlimit{Cur: most, Max: most}, nil))
	}
	if err := errors.Join(limits...); err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return fmt.Errorf("cannot bound what Suricata may take: %w", err)
	}
	said.listen(read)
	err = cmd.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// longestLine is how long a line of Suricata's log may be, in bytes: it repeats a rule, with each quote escaped.
const longestLine = 64 << 10

func (l *listener) listen(from io.Reader) {
	lines := bufio.NewReaderSize(from, longestLine)
	for {
		line, err := lines.ReadSlice('\n')
		if len(line) > 0 {
			var r struct {
				LogLevel string `json:"log_level"`
				Engine   struct {
					Message string `json:"message"`
				} `json:"engine"`
			}
			if json.Unmarshal(line, &r) != nil {
				l.hear("Error", string(line)) // the dynamic loader's, or an abort's: nothing but trouble writes them
			} else {
				l.hear(r.LogLevel, r.Engine.Message)
			}
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return
		}
	}
}
