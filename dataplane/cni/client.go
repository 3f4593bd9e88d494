package cni

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"
)

// Time limits of the plugin.
const (
	// connectTimeout is how long the plugin looks for an agent, which may just be starting again.
	connectTimeout = time.Second
	// connectEvery is the pause between two attempts.
	connectEvery = 50 * time.Millisecond
	// replyTimeout is how long the plugin waits for an answer.
	replyTimeout = AnswerTimeout + time.Second
)

// ErrNoAgent says that no agent answers at the socket.
var ErrNoAgent = errors.New("Meerkat's agent on this node does not answer")

// Client is the plugin's side.
type Client struct {
	// Socket is the path of the agent's unix socket.
	Socket string
}

// Add asks what is to become of a Pod that starts. The error wraps ErrNoAgent when there is no agent, or it has not answered
// in time; otherwise it is the agent's own, which could not decide.
func (c Client) Add(ctx context.Context, r Request) (Reply, error) { return c.call(ctx, pathAdd, r) }

// Del tells of a sandbox that ends.
func (c Client) Del(ctx context.Context, r Request) error {
	_, err := c.call(ctx, pathDel, r)
	return err
}

// Check asks whether the Pod's interface is as it was left.
func (c Client) Check(ctx context.Context, r Request) error {
	_, err := c.call(ctx, pathCheck, r)
	return err
}

func (c Client) call(ctx context.Context, path string, r Request) (Reply, error) {
	r.Netns = cleanNetns(r.Netns)
	body, err := json.Marshal(r)
	if err != nil {
		return Reply{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout+replyTimeout)
	defer cancel()
	conn, err := c.connect(ctx)
	if err != nil {
		return Reply{}, fmt.Errorf("%w: %w", ErrNoAgent, err)
	}
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil }}
	client := &http.Client{Transport: transport, Timeout: replyTimeout}
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://agent"+path, bytes.NewReader(body))
	if err != nil {
		return Reply{}, errors.Join(err, conn.Close())
	}
	answer, err := client.Do(q)
	if err != nil {
		return Reply{}, fmt.Errorf("%w: %w", ErrNoAgent, bare(err))
	}
	defer answer.Body.Close() //nolint:errcheck // all of it is read
	text, err := io.ReadAll(io.LimitReader(answer.Body, largest))
	if err != nil {
		return Reply{}, fmt.Errorf("%w: %w", ErrNoAgent, err)
	}
	return decode(answer.StatusCode, text)
}

// decode reads an answer.
func decode(status int, text []byte) (Reply, error) {
	if status != http.StatusOK {
		var f failure
		if json.Unmarshal(text, &f) != nil || f.Error == "" {
			f.Error = fmt.Sprintf("the agent answered with status %d: is it of another version than the plugin?", status)
		}
		return Reply{}, errors.New(f.Error)
	}
	var reply Reply
	if err := json.Unmarshal(text, &reply); err != nil {
		return Reply{}, fmt.Errorf("the agent's answer cannot be read: %w", err)
	}
	return reply, nil
}

// connect waits a moment for an agent that is just being replaced.
func (c Client) connect(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	var dialer net.Dialer
	for {
		conn, err := dialer.DialContext(ctx, "unix", c.Socket)
		if err == nil {
			return conn, nil
		}
		if errors.Is(err, os.ErrNotExist) || !errors.Is(err, syscall.ECONNREFUSED) {
			return nil, err // never here, or not anybody's to use: waiting does not help
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(connectEvery):
		}
	}
}

// bare takes the made-up address of the request out of an error.
func bare(err error) error {
	if errors.Is(err, context.DeadlineExceeded) || os.IsTimeout(err) {
		return fmt.Errorf("it has not answered within %s", replyTimeout)
	}
	if inner := errors.Unwrap(err); inner != nil {
		return inner
	}
	return err
}
