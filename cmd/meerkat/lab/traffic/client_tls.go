package traffic

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
)

// TLS shakes hands, asking for serverName (no SNI when empty), and sends one request inside. The certificate is not checked.
func (c *Conn) TLS(ctx context.Context, serverName string, r HTTPRequest) Result {
	result, done := c.begin(ctx)
	conn := tls.Client(c.conn, &tls.Config{
		ServerName:         serverName,
		InsecureSkipVerify: true, //nolint:gosec // the server's certificate is of its own making.
		NextProtos:         []string{"http/1.1"},
	})
	err := conn.HandshakeContext(ctx)
	done()
	if err != nil {
		c.fail(&result, err)
		result.Error = fmt.Sprintf("TLS handshake: %v", err)
		return result
	}
	inner := &Conn{conn: conn, in: bufio.NewReader(conn), start: result.Start}
	if r.Host == "" && serverName != "" {
		r.Host = serverName
	}
	got := inner.HTTP(ctx, r)
	got.Start = result.Start
	c.unanswered = inner.unanswered
	return got
}
