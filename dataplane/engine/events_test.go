package engine

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// The engine may have become anybody: connections that it opens without end do not take the agent's memory, and those that it ends
// make room.
func TestEventConnectionsAreBounded(t *testing.T) {
	dir, err := os.MkdirTemp("", "mkeng")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "events.sock")
	events := make(chan Event, 100)
	s, err := listenEvents(path, events, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	var conns []net.Conn
	for range 3 * maxEventConns {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		conns = append(conns, conn)
	}
	open := func() int {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.open)
	}
	refused := conns[len(conns)-1]
	_ = refused.SetReadDeadline(time.Now().Add(30 * time.Second))
	if _, err := refused.Read(make([]byte, 1)); err == nil || os.IsTimeout(err) {
		t.Errorf("one connection more is not closed: %v", err)
	}
	if n := open(); n != maxEventConns {
		t.Errorf("%d connections are read", n)
	}
	for _, conn := range conns {
		_ = conn.Close()
	}
	waitFor(t, 2*time.Second, "free", func() bool { return open() == 0 })
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if _, err := fmt.Fprintln(conn, `{"timestamp":"2026-01-02T03:04:05.000000+0000","event_type":"alert","alert":{"action":"blocked","signature_id":15},"src_ip":"10.0.0.1","dest_ip":"10.0.0.2","proto":"TCP"}`); err != nil {
		t.Fatal(err)
	}
	select {
	case e := <-events:
		if e.Alert == nil || e.Alert.SID != 15 {
			t.Errorf("%+v", e)
		}
	case <-time.After(30 * time.Second):
		t.Error("no event")
	}
}
