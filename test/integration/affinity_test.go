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
	first, began := ask(), time.Now()
	for time.Since(began) < 6*time.Second {
		for range 4 { // at once
			if got := ask(); got != first {
				t.Fatalf("after %s the client was sent to %s, and before to %s", time.Since(began), got, first)
			}
		}
		time.Sleep(1200 * time.Millisecond)
	}
	for range 10 {
		time.Sleep(5 * time.Second)
		if ask() != first {
			return
		}
	}
	t.Errorf("however long it has not asked, the client is sent to %s", first)
}
