package integration

import (
	"errors"
	"fmt"
	"io"
	"syscall"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/scenario"
	"github.com/meerkat-dev/meerkat/test/testlab"
)

// resetLimit is how long either end may wait for the reset of a denied connection.
const resetLimit = 200 * time.Millisecond

// TestResetReachesBothEnds sends a denied request by every path and looks at both ends of the connection.
func TestResetReachesBothEnds(t *testing.T) {
	for _, policy := range []string{"ingress", "egress"} {
		l := testlab.Start(t, labs.Options(t), serviceObjects, "testdata/"+policy+".yaml")
		for _, target := range []scenario.Target{
			{Kind: scenario.PodTarget, Object: types.NamespacedName{Namespace: "shop", Name: "web"}, Port: "8080"},
			{Kind: scenario.ServiceTarget, Object: types.NamespacedName{Namespace: "shop", Name: "web"}, Port: "80"},
		} {
			for _, family := range []scenario.Family{scenario.IPv4, scenario.IPv6} {
				t.Run(fmt.Sprintf("%s/%s/%s", policy, target.Kind, family), func(t *testing.T) { denied(t, l, target, family) })
			}
		}
	}
}

// denied sends a request that is denied.
func denied(t *testing.T, l *lab.Lab, target scenario.Target, family scenario.Family) {
	t.Helper()
	address, err := l.Resolve(t.Context(), target, "tcp", family)
	if err != nil {
		t.Fatal(err)
	}
	from := scenario.Place{Pod: types.NamespacedName{Namespace: "shop", Name: "client"}}
	began := time.Now()
	conn, err := l.Dial(t.Context(), from, "tcp", address.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // it was reset
	sent := time.Now()
	if _, err := io.WriteString(conn, "GET /admin HTTP/1.1\r\nHost: web\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(sent.Add(3 * time.Second)); err != nil {
		t.Fatal(err)
	}
	_, err = conn.Read(make([]byte, 1))
	if took := time.Since(sent); !errors.Is(err, syscall.ECONNRESET) || took > resetLimit {
		t.Errorf("the client got %v after %s, not a reset within %s", err, took, resetLimit)
	}
	closed := func() bool {
		records := l.Records(began)
		return len(records) == 1 && !records[0].Closed.IsZero()
	}
	if !testlab.Eventually(t.Context(), resetLimit, closed) {
		t.Errorf("the server did not see the reset within %s: %+v", resetLimit, l.Records(began))
	}
	for _, r := range l.Records(began) {
		if r.Received > 0 {
			t.Errorf("the server received %q", r.Bytes)
		}
	}
}
