package integration

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/scenario"
	"github.com/meerkat-dev/meerkat/dataplane/capture"
	"github.com/meerkat-dev/meerkat/dataplane/node"
	"github.com/meerkat-dev/meerkat/test/testlab"
)

// capturing are inspections that keep packets: two that share an engine, one of clients and one of servers; one that keeps nothing; and one
// that prevents.
const capturing = `
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: shop, labels: {app: client}}
spec: {containers: [{name: main, image: registry.example/main}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
spec: {containers: [{name: main, image: registry.example/main, ports: [{name: http, containerPort: 8080}, {name: admin, containerPort: 9090}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: bank, namespace: shop, labels: {app: bank}}
spec: {containers: [{name: main, image: registry.example/main, ports: [{name: http, containerPort: 8080}]}]}
---
apiVersion: inspection.meerkat.dev/v1alpha1
kind: RuleSet
metadata: {name: own, namespace: shop}
spec:
  sources:
  - name: local
    inline: |
      alert http any any -> any any (msg:"passwords"; flow:to_server,established; http.uri; content:"/etc/passwd"; sid:1000001; rev:1;)
---
apiVersion: inspection.meerkat.dev/v1alpha1
kind: RuleSet
metadata: {name: strict, namespace: shop}
spec:
  sources:
  - name: local
    inline: |
      drop http any any -> any any (msg:"shadows"; flow:to_server,established; http.uri; content:"/etc/shadow"; sid:1000002; rev:1;)
---
apiVersion: inspection.meerkat.dev/v1alpha1
kind: TrafficInspection
metadata: {name: servers, namespace: shop}
spec: {podSelector: {matchLabels: {app: web}}, direction: Ingress, ports: [{port: http}], ruleSets: [{name: own}], capture: {enabled: true}}
---
apiVersion: inspection.meerkat.dev/v1alpha1
kind: TrafficInspection
metadata: {name: banks, namespace: shop}
spec: {podSelector: {matchLabels: {app: bank}}, direction: Ingress, ruleSets: [{name: own}], capture: {enabled: true, maxBytes: 1048576}}
---
apiVersion: inspection.meerkat.dev/v1alpha1
kind: TrafficInspection
metadata: {name: quiet, namespace: shop}
spec: {podSelector: {matchLabels: {app: web}}, direction: Ingress, ruleSets: [{name: own}]}
---
apiVersion: inspection.meerkat.dev/v1alpha1
kind: TrafficInspection
metadata: {name: prevents, namespace: shop}
spec: {podSelector: {matchLabels: {app: web}}, direction: Ingress, ports: [{port: admin}], mode: Prevent, ruleSets: [{name: strict}], capture: {enabled: true}}
`

const visits = `
apiVersion: lab.meerkat.dev/v1alpha1
kind: Scenario
metadata: {name: packets are kept}
steps:
- probe: {from: shop/client, to: pod/shop/web:8080, http: {path: /innocent}, expect: allow}
- probe: {from: shop/client, to: pod/shop/web:8080, http: {path: /etc/passwd}, expect: allow}
  alerts: [{sid: 1000001, inspection: shop/servers}]
- probe: {from: shop/client, to: pod/shop/bank:8080, http: {path: "/etc/passwd?bank"}, expect: allow}
  alerts: [{sid: 1000001, inspection: shop/banks}]
- probe: {from: shop/client, to: pod/shop/web:9090, http: {path: /etc/shadow}, expect: lost}
  alerts: [{sid: 1000002, inspection: shop/prevents, action: dropped}]
`

// kept is what is kept of an inspection in a lab of one node, as text: a line for each packet.
func kept(t *testing.T, dir, inspection string) (lines string, file []byte) {
	t.Helper()
	var out bytes.Buffer
	if _, err := capture.Read(t.Context(), capture.Dir(node.CaptureDir(filepath.Join(dir, "node-1")), inspection), capture.Query{}, &out); err != nil {
		t.Fatal(err)
	}
	file = bytes.Clone(out.Bytes())
	r, err := pcapgo.NewReader(&out)
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for {
		data, _, err := r.ReadPacketData()
		if errors.Is(err, io.EOF) {
			return text.String(), file
		}
		if err != nil {
			t.Fatal(err)
		}
		p := gopacket.NewPacket(data, layers.LayerTypeEthernet, gopacket.Default)
		s, ok := p.Layer(layers.LayerTypeTCP).(*layers.TCP)
		if !ok || p.Layer(layers.LayerTypeDot1Q) != nil {
			t.Fatalf("a packet is not as it was sent: %v", p)
		}
		fmt.Fprintf(&text, "%d>%d SYN=%t ACK=%t FIN=%t %q\n", s.SrcPort, s.DstPort, s.SYN, s.ACK, s.FIN, s.Payload)
	}
}

// TestPacketsAreKept keeps whole connections of inspections that ask for it, each inspection's own, and nothing else.
func TestPacketsAreKept(t *testing.T) {
	t.Parallel()
	objects := filepath.Join(t.TempDir(), "objects.yaml")
	if err := os.WriteFile(objects, []byte(capturing), 0o600); err != nil {
		t.Fatal(err)
	}
	options := labs.Options(t)
	l := testlab.Start(t, options, objects)
	s, err := scenario.Parse([]byte(visits), "scenario.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if report := scenario.Run(t.Context(), s, l.World(), scenario.Options{}); !report.Passed() {
		for _, row := range report.Rows {
			t.Errorf("%s: %s %s", row.Request, row.Got, row.Problem)
		}
	}
	dir := lab.Dir(options.StateDir, options.Name)
	for inspection, want := range map[string]struct{ has, not []string }{
		"shop/servers":  {[]string{"SYN=true ACK=false", "SYN=true ACK=true", "GET /etc/passwd HTTP", "HTTP/1.1 200", "FIN=true"}, []string{"innocent", "bank", "shadow"}},
		"shop/banks":    {[]string{"SYN=true ACK=false", "SYN=true ACK=true", "GET /etc/passwd?bank", "HTTP/1.1 200", "FIN=true"}, []string{"innocent", "passwd HTTP", "shadow"}},
		"shop/prevents": {[]string{"SYN=true ACK=false", "SYN=true ACK=true", "GET /etc/shadow"}, []string{"innocent", "passwd", "HTTP/1.1 200"}},
		"shop/quiet":    {nil, []string{">"}},
	} {
		missing := ""
		if !testlab.Eventually(t.Context(), 20*time.Second, func() bool {
			lines, _ := kept(t, dir, inspection)
			missing = ""
			for _, part := range want.has {
				if !strings.Contains(lines, part) {
					missing += fmt.Sprintf("%q is missing in\n%s", part, lines)
				}
			}
			return missing == ""
		}) {
			t.Errorf("%s: %s", inspection, missing)
		}
		lines, file := kept(t, dir, inspection)
		for _, part := range want.not {
			if strings.Contains(lines, part) {
				t.Errorf("%s: %q is in\n%s", inspection, part, lines)
			}
		}
		if first, _, _ := strings.Cut(lines, "\n"); len(want.has) > 0 && !strings.Contains(first, "SYN=true ACK=false") {
			t.Errorf("%s does not begin with its first packet:\n%s", inspection, lines)
		}
		tcpdump := exec.CommandContext(t.Context(), "tcpdump", "-nn", "-r", "-")
		tcpdump.Stdin = bytes.NewReader(file)
		if said, err := tcpdump.Output(); err != nil || strings.Count(string(said), "\n") != strings.Count(lines, "\n") {
			t.Errorf("%s: tcpdump does not read it: %v\n%s", inspection, err, said)
		}
	}
}
