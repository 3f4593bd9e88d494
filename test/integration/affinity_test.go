package integration

import (
	"testing"
	"time"

	"github.com/meerkat-dev/meerkat/test/testlab"
)

// TestSessionAffinity has a governed client ask a Service that keeps its clients for two seconds: it is sent to one server as long as it asks
// again within that time, however long in all, and to any after it.
func TestSessionAffinity(t *testing.T) {
	l := testlab.Start(t, labs.Options(t), "testdata/affinity.yaml")
	ask := func() string {
		t.Helper()
		began := time.Now()
		if code := get(t, l, "http://web.shop/public/a"); code != 0 {
			t.Fatalf("curl ended with %d", code)
		}
		records := l.Records(began)
		if len(records) != 1 {
			t.Fatalf("one request was sent, and servers saw %+v", records)
		}
		return records[0].Server
	}
	before := time.Now()
	first, began := ask(), time.Now()
	for kept := 0; kept < 20; {
		again := time.Now()
		got := ask()
		switch {
		case got == first:
			kept++
		case time.Since(before) < 2*time.Second:
			t.Fatalf("after %s the client was sent to %s, and before to %s", time.Since(began), got, first)
		default: // the machine was busy, and the time is over
			first, kept = got, 0
			t.Logf("%s after it last asked, the client was sent elsewhere", time.Since(before))
		}
		before = again
		if kept%4 == 0 { // four at once
			time.Sleep(1200 * time.Millisecond)
		}
	}
	if time.Since(began) < 4*time.Second {
		t.Errorf("%s is not longer than the Service's time", time.Since(began))
	}
	for range 20 {
		time.Sleep(5 * time.Second)
		if ask() != first {
			return
		}
	}
	t.Errorf("however long it has not asked, the client is sent to %s", first)
}
