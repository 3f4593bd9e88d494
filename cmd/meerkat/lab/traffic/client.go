package traffic

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"
)

// Conn is a client's connection. It is for one goroutine.
type Conn struct {
	conn  net.Conn
	in    *bufio.Reader
	start time.Time
	// ended is what ended the connection; later requests cannot be sent.
	ended error
	// unanswered tells that something was sent that got no answer, so that bytes may still be on their way.
	unanswered bool
}

// Connect opens a connection. When none comes about, the Conn is nil and the Result says why, with the local port where the
// Dialer tells it.
func Connect(ctx context.Context, dial Dialer, network, address string) (*Conn, Result) {
	result := Result{Start: time.Now()}
	result.Remote, _ = netip.ParseAddrPort(address)
	conn, err := dial(ctx, network, address)
	result.Elapsed = time.Since(result.Start)
	if err != nil {
		result.Outcome, result.Error = NotConnected, err.Error()
		if dialErr, ok := errors.AsType[*DialError](err); ok {
			result.Local = dialErr.Local
		}
		return nil, result
	}
	result.Local = addrPort(conn.LocalAddr())
	return &Conn{conn: conn, in: bufio.NewReader(conn), start: result.Start}, result
}

// Close closes the connection. When something was left unanswered, it resets it, so that the kernel does not go on and
// retransmit what was denied: under another policy, in a later step, it might pass.
func (c *Conn) Close() error {
	if tcp, ok := c.conn.(*net.TCPConn); ok && c.unanswered {
		return errors.Join(tcp.SetLinger(0), tcp.Close())
	}
	return c.conn.Close()
}

// Local is the connection's address at the client: what its verdicts and records are found by.
func (c *Conn) Local() netip.AddrPort { return addrPort(c.conn.LocalAddr()) }

// begin starts a Result, and binds reading and writing to ctx until done is called.
func (c *Conn) begin(ctx context.Context) (result Result, done func()) {
	result = Result{Start: time.Now(), Local: c.Local(), Remote: addrPort(c.conn.RemoteAddr())}
	return result, within(ctx, c.conn)
}

// within makes the connection's reads and writes fail once ctx ends; release undoes it.
func within(ctx context.Context, conn net.Conn) (release func()) {
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = conn.SetDeadline(time.Unix(1, 0))
		close(ended)
	})
	return func() {
		if !stop() {
			<-ended
		}
		_ = conn.SetDeadline(time.Time{})
	}
}

// fail fills in what an error means, and notes the connection's end.
func (c *Conn) fail(r *Result, err error) {
	r.Outcome, r.Error = outcomeOf(err), err.Error()
	r.Elapsed = time.Since(r.Start)
	c.unanswered = true
	if r.Outcome != Unanswered {
		c.ended = err
	}
}

// unsent says that a request could not be sent any more.
func (c *Conn) unsent(r *Result) {
	r.Outcome, r.Error = Unsent, fmt.Sprintf("the connection had ended before: %v", c.ended)
}

// outcomeOf tells what an error of reading or writing means.
func outcomeOf(err error) Outcome {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return Unanswered
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, syscall.ECONNREFUSED):
		return Reset
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		return Closed
	}
	return Failed
}
