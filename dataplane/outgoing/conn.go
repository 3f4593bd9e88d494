package outgoing

import (
	"net"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Conn is a TCP connection that counts what is written.
type Conn struct {
	*net.TCPConn
	written atomic.Int64
}

// Write implements net.Conn.
func (c *Conn) Write(p []byte) (int, error) {
	n, err := c.TCPConn.Write(p)
	c.written.Add(int64(n))
	return n, err
}

// Written is how many bytes have been written.
func (c *Conn) Written() int64 { return c.written.Load() }

// Acknowledged is how many bytes the other machine has acknowledged; false when the kernel does not tell. What a connection that breaks
// has not brought there is beyond that.
func (c *Conn) Acknowledged() (int64, bool) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, false
	}
	var n int
	var failed error
	before := c.written.Load()
	err = raw.Control(func(fd uintptr) { n, failed = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) })
	return before - int64(n), err == nil && failed == nil
}
