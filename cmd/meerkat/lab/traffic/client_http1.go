package traffic

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// maxBody bounds how much of an answer is kept.
const maxBody = 1 << 20

// Bytes gives the request as HTTP/1.x sends it. host stands in for an empty Host.
func (r HTTPRequest) Bytes(host string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/%s\r\n", or(r.Method, "GET"), or(r.Target, "/"), or(r.Version, "1.1"))
	if !r.NoHost {
		fmt.Fprintf(&b, "Host: %s\r\n", or(r.Host, host))
	}
	for _, h := range r.Headers {
		fmt.Fprintf(&b, "%s: %s\r\n", h.Name, h.Value)
	}
	if len(r.Body) > 0 && firstHeader(r.Headers, "Content-Length") == "" && firstHeader(r.Headers, "Transfer-Encoding") == "" {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(r.Body))
	}
	b.WriteString("\r\n")
	b.Write(r.Body)
	return b.Bytes()
}

func or(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}

// HTTP sends one request and waits for its answer, or for ctx.
func (c *Conn) HTTP(ctx context.Context, r HTTPRequest) Result {
	return c.Pipeline(ctx, []HTTPRequest{r})[0]
}

// Pipeline sends all requests in one write, and waits for their answers, or for ctx.
func (c *Conn) Pipeline(ctx context.Context, requests []HTTPRequest) []Result {
	var wire []byte
	methods := make([]string, len(requests))
	sent := make([][]byte, len(requests))
	for i, r := range requests {
		methods[i] = or(r.Method, "GET")
		b := r.Bytes(c.conn.RemoteAddr().String())
		sent[i] = b[:len(b)-len(r.Body)]
		wire = append(wire, b...)
	}
	return c.exchange(ctx, wire, methods, sent)
}

// Exchange sends bytes in the place of a request, in one write, and waits for one answer to each of the methods.
func (c *Conn) Exchange(ctx context.Context, b []byte) Result {
	method, head := "GET", []byte(nil)
	if requests := ParseRequests(b); len(requests) > 0 {
		method, head = requests[0].Method, requests[0].Head
	}
	return c.exchange(ctx, b, []string{method}, [][]byte{head})[0]
}

func (c *Conn) exchange(ctx context.Context, wire []byte, methods []string, sent [][]byte) []Result {
	results := make([]Result, len(methods))
	first, done := c.begin(ctx)
	defer done()
	var err error
	if c.ended == nil {
		_, err = c.conn.Write(wire)
	}
	for i := range results {
		results[i] = first
		results[i].Sent = sent[i]
		switch {
		case c.ended != nil && i == 0:
			c.unsent(&results[i])
		case err != nil:
			c.fail(&results[i], err)
		default:
			if err = c.readAnswer(&results[i], methods[i]); err != nil {
				c.fail(&results[i], err)
			}
		}
	}
	return results
}

// readAnswer reads one answer off the connection.
func (c *Conn) readAnswer(r *Result, method string) error {
	for {
		response, err := http.ReadResponse(c.in, &http.Request{Method: method})
		if err != nil {
			return err
		}
		if response.StatusCode < 200 && response.StatusCode != http.StatusSwitchingProtocols {
			continue
		}
		if response.StatusCode != http.StatusSwitchingProtocols {
			r.Body, err = io.ReadAll(io.LimitReader(response.Body, maxBody))
			if err != nil {
				return err
			}
			_ = response.Body.Close()
		}
		r.Outcome, r.Status, r.Elapsed = Answered, response.StatusCode, time.Since(r.Start)
		if response.Close {
			c.ended = io.EOF
		}
		return nil
	}
}
