package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"time"

	"github.com/meerkat-dev/meerkat/dataplane/engine/launcher"
)

// CommandTimeout bounds each command whose context has no earlier deadline. Only a reload may take longer.
const CommandTimeout = 5 * time.Second

// ReloadTimeout bounds a reload: 40,000 rules take 11 s.
const ReloadTimeout = 120 * time.Second

// maxCommand is how long a command may be, in bytes; Suricata reads no further.
const maxCommand = 4095

// maxAnswer is how long the answers to a command may be, in bytes. The longest, all counters or many failed rules, have some 100 kB.
const maxAnswer = 2 << 20

// commandClient speaks to Suricata's command socket. The engine serves one client at a time and waits up to five seconds for a
// client that says nothing, so commands go one after another, each on a connection of its own, never a bare connect.
type commandClient struct {
	dir, name string        // of the socket
	turn      chan struct{} // holds one token while a command is under way
}

func newCommandClient(dir, name string) *commandClient {
	return &commandClient{dir: dir, name: name, turn: make(chan struct{}, 1)}
}

// CommandError is the engine's refusal of a command.
type CommandError struct {
	Command string
	Message string
}

// Error tells the command and the engine's words.
func (e *CommandError) Error() string {
	return fmt.Sprintf("the engine refused the command %q: %s", e.Command, e.Message)
}

// RulesetStats counts rules, as the engine loaded them last.
type RulesetStats struct {
	Loaded  int `json:"rules_loaded"`
	Failed  int `json:"rules_failed"`
	Skipped int `json:"rules_skipped"`
}

// failedRule is an entry of ruleset-failed-rules.
type failedRule struct {
	Rule     string `json:"rule"`
	Filename string `json:"filename"`
	Line     int    `json:"line"`
	Error    string `json:"error"`
}

// Version asks for the engine's version ("8.0.8 RELEASE").
func (c *commandClient) Version(ctx context.Context) (string, error) {
	var v string
	return v, c.call(ctx, "version", &v)
}

// Uptime asks how long the engine has been running, in whole seconds.
func (c *commandClient) Uptime(ctx context.Context) (time.Duration, error) {
	var seconds int
	err := c.call(ctx, "uptime", &seconds)
	return time.Duration(seconds) * time.Second, err
}

// ReloadRules has the engine read its rule files again and returns when every worker uses what was read. It returns nil for bad
// rules too: only RulesetStats, FailedRules and ReloadTime tell what happened.
func (c *commandClient) ReloadRules(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, ReloadTimeout)
	defer cancel()
	var done string
	return c.callWithin(ctx, "reload-rules", &done)
}

// RulesetStats asks for the counts of the rules in force.
func (c *commandClient) RulesetStats(ctx context.Context) (RulesetStats, error) {
	var tenants []RulesetStats
	if err := c.call(ctx, "ruleset-stats", &tenants); err != nil {
		return RulesetStats{}, err
	}
	if len(tenants) != 1 {
		return RulesetStats{}, fmt.Errorf("the engine counts the rules of %d tenants, expected one", len(tenants))
	}
	return tenants[0], nil
}

// FailedRules asks for the rules that the last load refused.
func (c *commandClient) FailedRules(ctx context.Context) ([]failedRule, error) {
	var failed []failedRule
	return failed, c.call(ctx, "ruleset-failed-rules", &failed)
}

// ReloadTime asks when the rules in force were loaded; it changes with each load that took hold.
func (c *commandClient) ReloadTime(ctx context.Context) (string, error) {
	var tenants []struct {
		LastReload string `json:"last_reload"`
	}
	if err := c.call(ctx, "ruleset-reload-time", &tenants); err != nil {
		return "", err
	}
	if len(tenants) != 1 {
		return "", fmt.Errorf("the engine tells the reload times of %d tenants, expected one", len(tenants))
	}
	return tenants[0].LastReload, nil
}

// DumpCounters asks for all counters, as a tree of numbers.
func (c *commandClient) DumpCounters(ctx context.Context) (map[string]any, error) {
	var counters map[string]any
	return counters, c.call(ctx, "dump-counters", &counters)
}

// Shutdown asks the engine to end; it takes about a second.
func (c *commandClient) Shutdown(ctx context.Context) error {
	var bye string
	return c.call(ctx, "shutdown", &bye)
}

func (c *commandClient) call(ctx context.Context, command string, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, CommandTimeout)
	defer cancel()
	return c.callWithin(ctx, command, answer)
}

func (c *commandClient) callWithin(ctx context.Context, command string, answer any) error {
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return fmt.Errorf("command %q to the engine waited too long for the one before it: %w", command, context.Cause(ctx))
	}
	if err := c.exchange(ctx, command, answer); err != nil {
		if refused := (*CommandError)(nil); errors.As(err, &refused) {
			return err
		}
		return fmt.Errorf("command %q to the engine at %s: %w", command, filepath.Join(c.dir, c.name), err)
	}
	return nil
}

func (c *commandClient) exchange(ctx context.Context, command string, answer any) error {
	request, err := json.Marshal(map[string]string{"command": command})
	if err != nil {
		return err
	}
	if len(request) >= maxCommand {
		return fmt.Errorf("it is longer than %d bytes", maxCommand)
	}
	conn, err := launcher.Dial(ctx, c.dir, c.name)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // nothing is left to lose
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })
	defer stop()

	// The engine reads the greeting and each command with one recv: they must not arrive together.
	replies := json.NewDecoder(io.LimitReader(conn, maxAnswer))
	if _, err := send(conn, replies, command, []byte(`{"version":"0.2"}`)); err != nil {
		return contextFirst(ctx, err)
	}
	message, err := send(conn, replies, command, request)
	if err != nil {
		return contextFirst(ctx, err)
	}
	if err := json.Unmarshal(message, answer); err != nil {
		return fmt.Errorf("its answer makes no sense: %w", err)
	}
	return nil
}

// send writes one line and reads one reply.
func send(conn net.Conn, replies *json.Decoder, command string, line []byte) (json.RawMessage, error) {
	if _, err := conn.Write(append(line, '\n')); err != nil {
		return nil, err
	}
	var reply struct {
		Return  string          `json:"return"`
		Message json.RawMessage `json:"message"`
	}
	if err := replies.Decode(&reply); err != nil {
		return nil, err
	}
	if reply.Return != "OK" {
		return nil, &CommandError{Command: command, Message: launcher.Clean(string(reply.Message), 1000)}
	}
	return reply.Message, nil
}

// contextFirst prefers the reason why the caller gave up to the error of the connection that was cut for it.
func contextFirst(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return fmt.Errorf("no answer in time: %w", cause)
	}
	return err
}
