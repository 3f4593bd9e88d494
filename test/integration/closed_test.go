package integration

import (
	"fmt"
	"net"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/scenario"
	"github.com/meerkat-dev/meerkat/test/testlab"
)

// TestClosedBeforeTheAnswer has clients close their connections while answers to allowed requests are on their way. What the engine
// drops of these connections then, no policy denies, and no verdict event says so.
func TestClosedBeforeTheAnswer(t *testing.T) {
	l := testlab.Start(t, labs.Options(t), serviceObjects, "testdata/ingress.yaml")
	target := scenario.Target{Kind: scenario.PodTarget, Object: types.NamespacedName{Namespace: "shop", Name: "web"}, Port: "8080"}
	address, err := l.Resolve(t.Context(), target, "tcp", scenario.IPv4)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for i := range 60 {
		conn, err := l.Dial(t.Context(), scenario.Place{Pod: types.NamespacedName{Namespace: "shop", Name: "client"}}, "tcp", address.String())
		if err != nil {
			t.Fatal(err)
		}
		if tcp, ok := conn.(*net.TCPConn); ok && i%2 == 0 {
			_ = tcp.SetLinger(0) // a reset, and not a FIN
		}
		if _, err := fmt.Fprintf(conn, "GET /public/a?delay=%dms HTTP/1.1\r\nHost: web.shop\r\n\r\n", i%10); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Duration(i%7) * time.Millisecond) // so that answers are at different places
		_ = conn.Close()
	}
	time.Sleep(2 * time.Second) // by then TCP has sent again four times
	if events := l.Events(began); len(events) > 0 {
		t.Errorf("%d verdict events, the first one %+v", len(events), events[0])
	}
	if reached := len(l.Records(began)); reached < 50 {
		t.Errorf("%d connections reached the server", reached)
	}
}
