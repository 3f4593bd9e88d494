package main

import (
	"bufio"
	"context"
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

	conn   net.Conn
	reader *bufio.Reader
	dials  int
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
	if c.conn == nil {
		conn, err := (&net.Dialer{Timeout: c.timeout}).DialContext(ctx, "tcp", c.address)
		if err != nil {
			return 0, err
		}
		c.conn, c.reader = conn, bufio.NewReader(conn)
		c.dials++
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

func (c *client) close() {
	if c.conn != nil {
		_ = c.conn.Close()
		c.conn = nil
	}
}
