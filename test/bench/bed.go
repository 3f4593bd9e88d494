package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/network"
	"github.com/meerkat-dev/meerkat/dataplane/manifests"
)

// variant is one way to the same server.
type variant struct {
	name string
	// pod has the server, and the Service of the same name leads to it.
	pod string
	// proxy puts HAProxy with the allow-list in front of the server.
	proxy bool
	// bare puts Suricata with the allow-list between the Pod and its network, without Open vSwitch.
	bare bool
}

// variants in the order in which each round measures them. Only the last one's Pod is governed.
var variants = []variant{
	{name: "no policy", pod: "plain"},
	{name: "HAProxy", pod: "proxied", proxy: true},
	{name: "Suricata", pod: "bare", bare: true},
	{name: "Meerkat", pod: "governed"},
}

const objects = `
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: bench, labels: {role: client}}
spec: {containers: [{name: client, image: client}]}
`

const server = `
---
apiVersion: v1
kind: Pod
metadata: {name: %[1]s, namespace: bench, labels: {app: %[1]s}}
spec: {containers: [{name: server, image: server}]}
---
apiVersion: v1
kind: Service
metadata: {name: %[1]s, namespace: bench}
spec: {selector: {app: %[1]s}, ports: [{name: http, port: 80, targetPort: 8080}]}
`

const policy = `
---
apiVersion: inspection.meerkat.dev/v1alpha1
kind: L7Policy
metadata: {name: governed, namespace: bench}
spec:
  podSelector: {matchLabels: {app: governed}}
  ingress:
  - name: pages
    from: [{podSelector: {matchLabels: {role: client}}}]
    ports: [{port: 8080}]
    l7: [{http: {methods: [GET, HEAD], path: {prefix: /public/}}}]
`

// common is the beginning of every HAProxy configuration.
const common = `
global
  maxconn 4000
  nbthread 1
defaults
  mode http
  timeout connect 5s
  timeout client 30s
  timeout server 30s
`

// backend answers every request at once: the same program behind all of them.
const backend = common + `
frontend server
  bind %s
  http-request return status 200 content-type text/plain string "ok"
`

// proxy has the policy's allow-list.
const proxy = common + `
frontend proxy
  bind :8080,:::8080
  http-request deny unless { method GET HEAD } { path_beg /public/ }
  default_backend server
backend server
  http-reuse always
  server local 127.0.0.1:8081
`

// bed is the lab with its servers.
type bed struct {
	lab       *lab.Lab
	dir       string
	processes []*network.Command
	bare      *bare
	cpu       *cpuMeter
	addresses map[string]string // of Services, by the Pod's name
}

func newBed(ctx context.Context, say func(string, ...any)) (*bed, error) {
	var text strings.Builder
	text.WriteString(objects + policy)
	for _, v := range variants {
		fmt.Fprintf(&text, server, v.pod)
	}
	o, err := manifests.Read("bench", strings.NewReader(text.String()))
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "mkb-")
	if err != nil {
		return nil, err
	}
	l, err := lab.New(ctx, lab.Options{
		Name: fmt.Sprintf("bench-%d", os.Getpid()), StateDir: dir, Progress: func(what string) { say("%s", what) },
	})
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	b := &bed{lab: l, dir: dir, addresses: map[string]string{}}
	if err := l.Apply(ctx, o); err != nil {
		return nil, errors.Join(err, b.close())
	}
	for _, s := range l.Status().Services {
		b.addresses[strings.TrimPrefix(s.Name, "bench/")] = s.Addresses[0]
	}
	for _, v := range variants {
		if err := b.serve(ctx, v); err != nil {
			return nil, errors.Join(err, b.close())
		}
	}
	say("putting Suricata alone before a Pod")
	if b.bare, err = b.interposeBare(ctx); err != nil {
		return nil, errors.Join(err, b.close())
	}
	return b, nil
}

// serve starts the variant's server, and its proxy.
func (b *bed) serve(ctx context.Context, v variant) error {
	if !v.proxy {
		return b.haproxy(ctx, v, "server", fmt.Sprintf(backend, ":8080,:::8080"))
	}
	return errors.Join(b.haproxy(ctx, v, "server", fmt.Sprintf(backend, "127.0.0.1:8081")), b.haproxy(ctx, v, "proxy", proxy))
}

func (b *bed) haproxy(ctx context.Context, v variant, what, config string) error {
	file := filepath.Join(b.dir, v.pod+"-"+what+".cfg")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return err
	}
	c := b.lab.Command(ctx, pod(v.pod), "haproxy", "-db", "-f", file)
	c.Stderr = os.Stderr
	if err := c.Start(); err != nil {
		return err
	}
	b.processes = append(b.processes, c)
	return nil
}

// check waits until each variant answers what is allowed, and makes sure that each with an allow-list denies the rest.
func (b *bed) check(ctx context.Context) error {
	for _, v := range variants {
		deadline := time.Now().Add(5 * time.Second)
		for b.get(ctx, v, "/public/a") != "200" {
			if time.Now().After(deadline) {
				return fmt.Errorf("%s: the server does not answer", v.name)
			}
			time.Sleep(50 * time.Millisecond)
		}
		if denied := b.get(ctx, v, "/admin") != "200"; denied != (v.pod != "plain") {
			return fmt.Errorf("%s: /admin is denied: %t", v.name, denied)
		}
	}
	return nil
}

// get gives the status of an answer, or "000".
func (b *bed) get(ctx context.Context, v variant, path string) string {
	r, err := b.lab.Exec(ctx, pod("client"),
		[]string{"curl", "-s", "-m", "2", "-o", "/dev/null", "-w", "%{http_code}", "http://" + b.addresses[v.pod] + path})
	if err != nil {
		return err.Error()
	}
	return string(r.Stdout)
}

func (b *bed) close() error {
	for _, p := range b.processes {
		p.Kill()
	}
	return errors.Join(b.bare.close(), b.lab.Close(), os.RemoveAll(b.dir))
}

func pod(name string) types.NamespacedName {
	return types.NamespacedName{Namespace: "bench", Name: name}
}
