package e2e

import (
	"bytes"
	"context"
	"encoding/json"
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

	"github.com/meerkat-dev/meerkat/test/e2e/cluster"
)

const watched = `
apiVersion: inspection.meerkat.dev/v1alpha1
kind: RuleSet
metadata: {name: teapots, namespace: shop}
spec:
  sources:
  - name: local
    inline: |
      alert http any any -> any any (msg:"a teapot"; flow:to_server,established; http.uri; content:"/public/teapot"; sid:1000001; rev:1;)
---
apiVersion: inspection.meerkat.dev/v1alpha1
kind: TrafficInspection
metadata: {name: watch, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  direction: Ingress
  ruleSets: [{name: teapots}]
  capture: {enabled: true}
`

const collectorPod = `
apiVersion: v1
kind: Pod
metadata: {name: collector, namespace: shop, labels: {app: collector}}
spec:
  nodeName: NODE
  terminationGracePeriodSeconds: 0
  containers: [{name: collector, image: meerkat-dev/workload:dev, imagePullPolicy: Never, args: [collect, ":9880"]}]
`

// events has alerts and verdicts of both nodes' Pods go to a web server in the cluster and to a file of the node, without rolling anything,
// and reads the packets of the connections that raised alerts.
func events(t *testing.T, w *world) {
	collector := strings.ReplaceAll(collectorPod, "NODE", w.far)
	w.Apply(t, collector)
	w.Kubectl(t, "wait", "--namespace=shop", "--for=condition=Ready", "--timeout=60s", "pod/collector")
	defer w.Remove(t, collector)
	address := w.Kubectl(t, "get", "pod", "--namespace=shop", "collector", "-o", "jsonpath={.status.podIP}")
	generation := func() string {
		return w.Kubectl(t, "get", "daemonset", "--namespace=meerkat-system", "meerkat-node", "-o", "jsonpath={.metadata.generation}")
	}
	before := generation()
	w.Kubectl(t, "patch", "engine", "default", "--type=merge", "-p", fmt.Sprintf(
		`{"spec":{"outputs":[{"name":"web","http":{"url":"http://%s:9880/"}},{"name":"file","file":{"name":"events.jsonl"}}]}}`, address))
	defer w.Kubectl(t, "patch", "engine", "default", "--type=merge", "-p", `{"spec":{"outputs":null}}`)
	w.Apply(t, watched)
	defer w.Remove(t, watched)
	w.Apply(t, storefront)
	defer w.Remove(t, storefront)
	w.ready(t, "storefront")
	if _, err := w.Try(t.Context(), "", "wait", "--namespace=shop", "--for=condition=Ready", "--timeout=120s", "trafficinspection/watch"); err != nil {
		t.Fatalf("%v\n%s", err, w.Kubectl(t, "get", "ruleset,trafficinspection,nodeinspection", "-A", "-o", "yaml"))
	}
	w.Kubectl(t, "wait", "--for=condition=EventsDelivered", "--timeout=60s", "engine/default")
	w.everywhere(t, yes("GET /public/teapot"), no("GET /private/teapot"), yes("GET /public/after"))
	scraped(t, w)

	for where, read := range map[string]func() (string, error){
		"the web server": func() (string, error) { return w.Try(t.Context(), "", "logs", "--namespace=shop", "collector") },
		"the file":       func() (string, error) { return w.OnNode(t.Context(), w.near, "cat", "/var/log/meerkat/events.jsonl") },
	} {
		if where == "the file" && !w.CanReachNodes() {
			continue
		}
		cluster.Eventually(t, 60*time.Second, "alerts and verdicts arrive at "+where, func() error {
			text, err := read()
			if err != nil {
				return err
			}
			return told(text, nearClient, farClient)
		})
	}
	if after := generation(); after != before {
		t.Errorf("outputs have rolled the agents: generation %s became %s", before, after)
	}
	packets(t, w)
}

// told tells whether events have an alert and a denial of each client.
func told(text string, clients ...string) error {
	found := map[string]bool{}
	for line := range strings.Lines(text) {
		var e struct {
			Kind, Node     string
			Client, Source struct{ Name string }
		}
		if json.Unmarshal([]byte(line), &e) == nil && e.Node != "" {
			found[e.Kind+" "+e.Client.Name+e.Source.Name] = true
		}
	}
	for _, client := range clients {
		if !found["alert "+client] || !found["verdict "+client] {
			return fmt.Errorf("there are %v", found)
		}
	}
	return nil
}

// packets reads them as an administrator, and as somebody who may read those of the shop, and of nothing else.
func packets(t *testing.T, w *world) {
	program := filepath.Join(t.TempDir(), "kubectl-meerkat")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "../../cmd/meerkat").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	pcap := func(kubeconfig string, args ...string) ([]byte, error) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, program, append([]string{"pcap"}, args...)...)
		cmd.Env = append(os.Environ(), "KUBECONFIG="+kubeconfig)
		var said bytes.Buffer
		cmd.Stderr = &said
		out, err := cmd.Output()
		if err != nil {
			err = fmt.Errorf("%w: %s", err, said.String())
		}
		return out, err
	}
	admin := os.Getenv("KUBECONFIG")
	cluster.Eventually(t, 30*time.Second, "the connections of both clients are kept", func() error {
		file, err := pcap(admin, "shop/watch")
		if err != nil {
			return err
		}
		return connections(file)
	})
	if _, err := pcap(admin, "shop/nothing"); err == nil || !strings.Contains(err.Error(), "there is no TrafficInspection shop/nothing") {
		t.Errorf("an inspection that does not exist: %v", err)
	}

	w.Kubectl(t, "create", "serviceaccount", "--namespace=shop", "reader")
	w.Kubectl(t, "create", "rolebinding", "--namespace=meerkat-system", "packet-readers", "--role=meerkat-packet-reader", "--serviceaccount=shop:reader")
	defer w.Kubectl(t, "delete", "rolebinding", "--namespace=meerkat-system", "packet-readers")
	defer w.Kubectl(t, "delete", "serviceaccount", "--namespace=shop", "reader")
	text, err := os.ReadFile(admin)
	if err != nil {
		t.Fatal(err)
	}
	reader := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(reader, text, 0o600); err != nil {
		t.Fatal(err)
	}
	token := strings.TrimSpace(w.Kubectl(t, "create", "token", "--namespace=shop", "reader"))
	w.Kubectl(t, "--kubeconfig="+reader, "config", "set-credentials", "reader", "--token="+token)
	w.Kubectl(t, "--kubeconfig="+reader, "config", "set-context", "--current", "--user=reader")
	if _, err := pcap(reader, "shop/watch"); err == nil || !strings.Contains(err.Error(), "forbidden") {
		t.Errorf("without the right to read packets of the shop: %v", err)
	}
	w.Kubectl(t, "create", "rolebinding", "--namespace=shop", "packet-readers", "--clusterrole=meerkat-pcap-reader", "--serviceaccount=shop:reader")
	defer w.Kubectl(t, "delete", "rolebinding", "--namespace=shop", "packet-readers")
	cluster.Eventually(t, 10*time.Second, "one who may read the shop's packets does", func() error {
		file, err := pcap(reader, "shop/watch", "--pod", "near-client", "--since", "1h")
		if err != nil {
			return err
		}
		if len(file) < 100 {
			return errors.New("nothing is there")
		}
		return nil
	})
	agent := strings.Fields(w.Kubectl(t, "get", "pods", "--namespace=meerkat-system", "-l", "app.kubernetes.io/component=node", "-o", "jsonpath={.items[*].metadata.name}"))[0]
	for _, command := range [][]string{{"id"}, {"/usr/local/bin/agent", "capture", "--inspection=bank/watch"}} {
		args := append([]string{"--kubeconfig=" + reader, "exec", "--namespace=meerkat-system", agent, "-c", "agent", "--"}, command...)
		if out, err := w.Try(t.Context(), "", args...); err == nil || !strings.Contains(err.Error(), "you may") {
			t.Errorf("a reader of packets runs %v: %s %v", command, out, err)
		}
	}
}

// connections tells whether a pcap file has whole connections, each packet once, of two clients at least.
func connections(file []byte) error {
	r, err := pcapgo.NewReader(bytes.NewReader(file))
	if err != nil {
		return err
	}
	began, asked := map[string]int{}, map[string]bool{}
	for {
		data, _, err := r.ReadPacketData()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		p := gopacket.NewPacket(data, layers.LayerTypeEthernet, gopacket.Default)
		s, ok := p.Layer(layers.LayerTypeTCP).(*layers.TCP)
		if !ok {
			return fmt.Errorf("a packet is not of the connection: %v", p)
		}
		from := p.NetworkLayer().NetworkFlow().Src().String()
		if s.SYN && !s.ACK {
			began[fmt.Sprint(from, ":", s.SrcPort)]++
		}
		if strings.Contains(string(s.Payload), "GET /public/teapot") {
			asked[from] = true
		}
	}
	for connection, times := range began {
		if times != 1 {
			return fmt.Errorf("%s begins %d times", connection, times)
		}
	}
	if len(asked) < 2 || len(began) < 4 {
		return fmt.Errorf("%d connections of %d clients are kept: %v %v", len(began), len(asked), began, asked)
	}
	return nil
}
