package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// client sends requests on one connection, as long as that lasts.
type client struct {
	address string
	timeout time.Duration // of each request, the connection included
	port    int           // of this end; 0: any

	from   int // the port of this end, once there was a connection
	conn   net.Conn
	reader *bufio.Reader
}

// do sends one request, "METHOD PATH", and waits for the answer. After an error the connection is closed.
func (c *client) do(ctx context.Context, line string) result {
	began := time.Now()
	status, err := c.try(ctx, line)
	r := result{Request: line, Status: status, Ms: time.Since(began).Milliseconds()}
	if err != nil {
		r.Error = err.Error()
		c.close()
	}
	return r
}

func (c *client) try(ctx context.Context, line string) (int, error) {
	if err := c.open(ctx); err != nil {
		return 0, err
	}
	if err := c.conn.SetDeadline(time.Now().Add(c.timeout)); err != nil {
		return 0, err
	}
	method, path, _ := strings.Cut(line, " ")
	if _, err := fmt.Fprintf(c.conn, "%s %s HTTP/1.1\r\nHost: %s\r\n\r\n", method, path, c.address); err != nil {
		return 0, err
	}
	response, err := http.ReadResponse(c.reader, &http.Request{Method: method})
	if err != nil {
		return 0, err
	}
	defer func() { _ = response.Body.Close() }()
	_, err = io.Copy(io.Discard, response.Body)
	return response.StatusCode, err
}

var errUnopened = errors.New("no connection")

// open connects, where that has not happened yet.
func (c *client) open(ctx context.Context) error {
	if c.conn != nil {
		return nil
	}
	dialer := &net.Dialer{Timeout: c.timeout}
	if c.port != 0 {
		dialer.LocalAddr = &net.TCPAddr{Port: c.port}
	}
	conn, err := dialer.DialContext(ctx, "tcp", c.address)
	if err != nil {
		return fmt.Errorf("%w: %w", errUnopened, err)
	}
	c.conn, c.reader = conn, bufio.NewReader(conn)
	if local, ok := conn.LocalAddr().(*net.TCPAddr); ok {
		c.from = local.Port
	}
	return nil
}

func (c *client) close() {
	if c.conn != nil {
		_ = c.conn.Close()
		c.conn = nil
	}
}
