package load

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/network"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/scenario"
	"github.com/meerkat-dev/meerkat/dataplane/attach/netspace"
	"github.com/meerkat-dev/meerkat/test/testlab"
)

const mib = 1 << 20

// TestPathMTU sends data over a wire that takes less than the Pods send: the connections adapt, whichever end is inspected.
func TestPathMTU(t *testing.T) {
	for _, policy := range []string{"web-ingress", "web-egress"} {
		t.Run(policy, func(t *testing.T) {
			opts := labs.Options(t)
			opts.Nodes = 2
			l := testlab.Start(t, opts, "testdata/web.yaml", "testdata/"+policy+".yaml")
			for _, node := range []string{"node-1", "node-2"} {
				c := network.NewCommand(t.Context(), l.NodeNetns(node), "ip", "link", "set", "eth0", "mtu", "1400")
				if err := c.Run(); err != nil {
					t.Fatal(err)
				}
			}
			startBulkServer(t, l)
			for _, family := range []scenario.Family{scenario.IPv4, scenario.IPv6} {
				for way, speed := range bulkBoth(t, l, family, 16*mib) {
					t.Logf("%s, %s, by the Service: %.0f MB/s", family, way, speed/1e6)
				}
			}
			for _, family := range []scenario.Family{scenario.IPv4, scenario.IPv6} {
				if err := askClosedPort(t, l, family); !errors.Is(err, syscall.ECONNREFUSED) {
					t.Errorf("%s: a datagram to a closed port of the Service got %v, not a refusal", family, err)
				}
			}
			for _, c := range []struct{ pod, family string }{{"client", "-4"}, {"client", "-6"}, {"web", "-4"}, {"web", "-6"}} {
				learned := network.NewCommand(t.Context(), l.PodNetns(shop(c.pod)), "ip", c.family, "route", "show", "cache")
				var out strings.Builder
				learned.Stdout = &out
				if err := learned.Run(); err != nil {
					t.Fatal(err)
				}
				t.Logf("%s %s has learned: %s", c.pod, c.family, strings.Join(strings.Fields(out.String()), " "))
				if !strings.Contains(out.String(), "mtu 1400") {
					t.Errorf("Pod %s was not told of the smaller MTU by ICMP: %q", c.pod, out.String())
				}
			}
		})
	}
}

// askClosedPort sends a datagram to a port of the Service where nobody listens, and gives what the ICMP error makes of it.
func askClosedPort(t *testing.T, l *lab.Lab, family scenario.Family) error {
	t.Helper()
	address, err := l.Resolve(t.Context(), scenario.Target{Kind: scenario.ServiceTarget, Object: shop("web"), Port: "81"}, "udp", family)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := netspace.Dial(t.Context(), l.PodNetns(shop("client")), "udp", address.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // test
	_ = conn.SetDeadline(time.Now().Add(2 * time.Second))
	if _, err := conn.Write([]byte("anybody?")); err != nil {
		return err
	}
	_, err = conn.Read(make([]byte, 1))
	return err
}

// startBulkServer sends and takes data whose sum both ends work out.
func startBulkServer(t *testing.T, l *lab.Lab) {
	t.Helper()
	listener, err := netspace.Listen(t.Context(), l.PodNetns(shop("web")), "tcp", ":9000")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			sum := sha256.New()
			n, _ := io.Copy(sum, r.Body)
			fmt.Fprintf(w, "%d %s", n, hex.EncodeToString(sum.Sum(nil)))
			return
		}
		var seed uint64
		var size int64
		if _, err := fmt.Sscanf(r.URL.Path, "/public/%d/%d", &seed, &size); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Length", fmt.Sprint(size))
		_, _ = io.Copy(w, data(seed, size))
	})}
	served := make(chan struct{})
	go func() { _ = server.Serve(listener); close(served) }()
	t.Cleanup(func() { _ = server.Close(); <-served })
}

// data is a stream of that many bytes, which no other seed gives.
func data(seed uint64, size int64) io.Reader {
	return io.LimitReader(&noise{state: seed}, size)
}

// noise is a chain of blocks that differ, and that cost little to make.
type noise struct {
	state uint64
	block []byte
	at    int
}

func (n *noise) Read(b []byte) (int, error) {
	if n.block == nil {
		n.block = make([]byte, 64<<10)
		_, _ = rand.NewChaCha8([32]byte{byte(n.state)}).Read(n.block)
	}
	if n.at == len(n.block) {
		n.state++
		for i := range 8 { // a block that is lost, doubled or in another's place changes the sum
			n.block[i] = byte(n.state >> (8 * i))
		}
		n.at = 0
	}
	done := copy(b, n.block[n.at:])
	n.at += done
	return done, nil
}

// bulkBoth sends that many bytes each way through the Service, and gives the speeds in bytes a second.
func bulkBoth(t *testing.T, l *lab.Lab, family scenario.Family, size int64) map[string]float64 {
	t.Helper()
	address, err := l.Resolve(t.Context(), scenario.Target{Kind: scenario.ServiceTarget, Object: shop("web"), Port: "80"}, "tcp", family)
	if err != nil {
		t.Fatal(err)
	}
	seed := rand.Uint64()
	sum := sha256.New()
	_, _ = io.Copy(sum, data(seed, size))
	want := hex.EncodeToString(sum.Sum(nil))
	client := bulkClient(l.PodNetns(shop("client")), address)
	defer client.CloseIdleConnections()
	speeds := map[string]float64{}
	for way, transfer := range map[string]func() (string, error){
		"download": func() (string, error) {
			r, err := client.Get(fmt.Sprintf("http://web/public/%d/%d", seed, size))
			if err != nil {
				return "", err
			}
			defer r.Body.Close() //nolint:errcheck // only read
			got := sha256.New()
			_, err = io.Copy(got, r.Body)
			return hex.EncodeToString(got.Sum(nil)), err
		},
		"upload": func() (string, error) {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://web/public/upload", data(seed, size))
			if err != nil {
				return "", err
			}
			request.ContentLength = size
			r, err := client.Do(request)
			if err != nil {
				return "", err
			}
			defer r.Body.Close() //nolint:errcheck // only read
			answer, err := io.ReadAll(r.Body)
			_, got, _ := strings.Cut(string(answer), " ")
			return got, err
		},
	} {
		began := time.Now()
		got, err := transfer()
		if err != nil || got != want {
			t.Fatalf("%s, %s of %d MiB: sum %s, want %s, error %v", family, way, size/mib, got, want, err)
		}
		speeds[way] = float64(size) / time.Since(began).Seconds()
	}
	return speeds
}

func bulkClient(path string, address netip.AddrPort) *http.Client {
	return &http.Client{Timeout: time.Minute, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return netspace.Dial(ctx, path, "tcp", address.String())
		},
	}}
}
