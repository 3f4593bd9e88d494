package plugin_test

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	specification "github.com/containernetworking/cni/pkg/version"
	"github.com/go-logr/logr"

	"github.com/meerkat-dev/meerkat/dataplane/cni"
	"github.com/meerkat-dev/meerkat/dataplane/cni/plugin"
)

// TestMain is the plugin itself when a test runs it as a runtime does.
func TestMain(m *testing.M) {
	if os.Getenv("CNI_COMMAND") != "" {
		p := plugin.Plugin{Out: os.Stdout, Err: os.Stderr}
		skel.PluginMainFuncs(p.Funcs(), specification.PluginSupports(plugin.Versions()...), "test")
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// node is what the plugin finds on a node.
type node struct {
	t   *testing.T
	dir string
	// version is that of the CNI specification; prevResult is "" for none.
	version, prevResult string
}

func newNode(t *testing.T) *node {
	t.Helper()
	return &node{t: t, dir: t.TempDir(), version: "1.0.0", prevResult: result}
}

func (n *node) path(name string) string { return filepath.Join(n.dir, name) }

// A result with what no version of the specification knows.
const result = `{"cniVersion":"1.0.0","interfaces":[{"name":"veth1","mac":"02:00:00:00:00:01"},{"name":"eth0","mac":"02:00:00:00:00:02","sandbox":"/run/netns/cni-1"}],` +
	`"ips":[{"address":"10.0.0.2/24","gateway":"10.0.0.1","interface":1},{"address":"fd00::2/64","interface":1}],"dns":{},"x":{"y":1.50}}`

const pod = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-1;K8S_POD_INFRA_CONTAINER_ID=c1;K8S_POD_UID=u1"

// run runs the plugin.
func (n *node) run(command, args string) (stdout, stderr string, err *types.Error) {
	n.t.Helper()
	conf := map[string]any{
		"cniVersion": n.version, "name": "net", "type": plugin.Name, "unknown": 1,
		"socket": n.path("agent.sock"), "runDir": n.path("run"), "dataDir": n.path("data"), "attachDir": n.path("attach"),
	}
	if n.prevResult != "" {
		conf["prevResult"] = json.RawMessage(n.prevResult)
	}
	stdin, e := json.Marshal(conf)
	if e != nil {
		n.t.Fatal(e)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "CNI_COMMAND="+command, "CNI_CONTAINERID=c1", "CNI_NETNS=/proc/1/ns/net", "CNI_IFNAME=eth0",
		"CNI_ARGS="+args, "CNI_PATH=/nowhere", "CNI_NETNS_OVERRIDE=1")
	cmd.Stdin = bytes.NewReader(stdin)
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if e := cmd.Run(); e != nil {
		if json.Unmarshal(out.Bytes(), &err) != nil || err == nil {
			n.t.Fatalf("%s: %v: %s%s", command, e, out.String(), complaints.String())
		}
	}
	return out.String(), complaints.String(), err
}

// starts wants the Pod to start with the previous result, byte for byte.
func (n *node) starts(when string) {
	n.t.Helper()
	out, _, err := n.run("ADD", pod)
	if err != nil || strings.TrimSpace(out) != n.prevResult {
		n.t.Errorf("%s: %v, %s", when, err, out)
	}
}

// waits wants the Pod to wait, and the message to have these words.
func (n *node) waits(when string, words ...string) {
	n.t.Helper()
	_, _, err := n.run("ADD", pod)
	if err == nil || err.Code != types.ErrTryAgainLater {
		n.t.Errorf("%s: %v", when, err)
		return
	}
	n.t.Logf("%s: %s", when, err.Msg)
	for _, w := range append(words, "Pod shop/web-1 waits: ") {
		if !strings.Contains(err.Msg, w) {
			n.t.Errorf("%s: nothing is said of %q: %s", when, w, err.Msg)
		}
	}
}

func (n *node) selectors(list ...cni.Selector) {
	n.t.Helper()
	err := cni.WriteSelectors(n.path("data"), cni.Selectors{Namespaces: map[string][]cni.Selector{"shop": list, "other": {{Policy: "o"}}}})
	if err != nil {
		n.t.Fatal(err)
	}
}

// apiServer answers with a status and a Pod, and the plugin gets credentials for it.
func (n *node) apiServer(status int, answer string) *httptest.Server {
	n.t.Helper()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/v1/namespaces/shop/pods/web-1" || r.Header.Get("Authorization") != "Bearer token-1" {
			n.t.Errorf("asked for %s with %q", r.URL.Path, r.Header)
		}
		w.WriteHeader(status)
		fmt.Fprint(w, answer)
	}))
	n.t.Cleanup(server.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	n.credentials(cni.Credentials{Server: server.URL + "/", CA: ca, Token: "token-1\n", Node: "node-7"})
	return server
}

func (n *node) credentials(c cni.Credentials) {
	n.t.Helper()
	if err := cni.WriteCredentials(n.path("run"), c); err != nil {
		n.t.Fatal(err)
	}
}

func TestWithoutAgent(t *testing.T) {
	web, db := cni.Selector{Policy: "web", Pods: "app=web"}, cni.Selector{Policy: "db", Pods: "app=db"}
	object := func(labels string) string {
		return `{"kind":"PartialObjectMetadata","metadata":{"name":"web-1","uid":"u1","labels":` + labels + `}}`
	}

	n := newNode(t)
	n.starts("no agent has ever run here")
	n.selectors()
	n.starts("nothing is Closed in the namespace")

	n.selectors(web, cni.Selector{Policy: "all"})
	n.waits("a policy selects all Pods, whatever their labels", "L7Policy shop/all selects it", "failurePolicy Closed", "does not answer", "kubectl -n meerkat-system get pods -o wide")

	n.selectors(web, db)
	n.waits("no credentials", "L7Policy shop/db, shop/web may select it", "has left no credentials")

	n.apiServer(200, object(`{"app":"web"}`))
	n.waits("it matches", "L7Policy shop/web selects it", "spec.nodeName=node-7")
	n.apiServer(200, object(`{"app":"mail"}`))
	n.starts("it does not match")
	n.apiServer(200, object(`null`))
	n.starts("it has no labels")
	n.apiServer(200, `{"metadata":{"uid":"static-1","annotations":{"kubernetes.io/config.hash":"u1"},"labels":{"app":"mail"}}}`)
	n.starts("a static Pod that does not match")
	n.apiServer(200, `{"metadata":{"uid":"u2","labels":{"app":"mail"}}}`)
	n.waits("another Pod of the same name", "may select it", "another Pod of that name")
	n.apiServer(401, `{}`)
	n.waits("expired credentials", "may select it", "expired")
	n.apiServer(404, `{}`)
	n.waits("a Pod that is gone", "knows no such Pod")
	n.apiServer(200, `{`)
	n.waits("half an answer", "cannot be read")
	n.apiServer(200, object(`{"app":"mail"}`)).Close()
	n.waits("no API server", "the API server does not answer")
	other := httptest.NewTLSServer(http.NotFoundHandler())
	defer other.Close()
	n.credentials(cni.Credentials{Server: other.URL, CA: []byte("no certificate"), Token: "t"})
	n.waits("no certificate", "no certificate")

	if err := os.WriteFile(filepath.Join(n.path("data"), "selectors.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	n.waits("selectors that cannot be read", "selectors.json cannot be read")
}

// TestSlowAPIServer bounds how long the runtime waits.
func TestSlowAPIServer(t *testing.T) {
	n := newNode(t)
	n.selectors(cni.Selector{Policy: "web", Pods: "app=web"})
	release := make(chan struct{})
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer server.Close()
	defer close(release)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	n.credentials(cni.Credentials{Server: server.URL, CA: ca, Token: "token-1"})
	began := time.Now()
	n.waits("a slow API server", "the API server does not answer")
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
}

type agent struct {
	reply cni.Reply
	err   error
	asked []cni.Request
}

func (a *agent) Add(_ context.Context, r cni.Request) (cni.Reply, error) {
	a.asked = append(a.asked, r)
	return a.reply, a.err
}

func (a *agent) Del(_ context.Context, r cni.Request) error {
	a.asked = append(a.asked, r)
	return a.err
}

func (a *agent) Check(context.Context, cni.Request) error { return a.err }

func (n *node) serve(h cni.Handler) {
	n.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- (&cni.Server{Socket: n.path("agent.sock"), Handler: h, Log: logr.Discard()}).Serve(ctx)
	}()
	n.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			n.t.Error(err)
		}
	})
	for range 1000 {
		if _, err := os.Stat(n.path("agent.sock")); err == nil {
			return
		}
		time.Sleep(time.Millisecond)
	}
	n.t.Fatal("no socket")
}

func TestWithAgent(t *testing.T) {
	n := newNode(t)
	n.selectors(cni.Selector{Policy: "all"})
	a := &agent{}
	n.serve(a)
	for _, d := range []cni.Decision{cni.Governed, cni.NotGoverned, cni.Later} {
		a.reply = cni.Reply{Decision: d}
		n.starts(string(d))
	}
	r := a.asked[0]
	if r.Namespace != "shop" || r.Name != "web-1" || r.UID != "u1" || r.ContainerID != "c1" || r.Interface != "eth0" ||
		r.Netns != "/proc/1/ns/net" || fmt.Sprint(r.Addresses) != "[10.0.0.2/24 fd00::2/64]" {
		t.Errorf("the agent was asked %+v", r)
	}
	a.reply = cni.Reply{Decision: cni.Wait, Reason: "the engine does not run yet"}
	n.waits("the agent says so", "the engine does not run yet")
	a.err = fmt.Errorf("the Pod is not known: %w", cni.ErrUndecided)
	n.waits("the agent cannot tell", "L7Policy shop/all selects it", "the Pod is not known")

	if _, _, err := n.run("CHECK", pod); err == nil || !strings.Contains(err.Msg, "not known") {
		t.Errorf("CHECK: %v", err)
	}
}

func TestAddOfOthers(t *testing.T) {
	n := newNode(t)
	n.selectors(cni.Selector{Policy: "all"})
	a := &agent{err: errors.New("must not be asked")}
	n.serve(a)
	for what, args := range map[string]string{
		"no Pod of Kubernetes":   "",
		"a Pod of Meerkat's own": strings.ReplaceAll(pod, "=shop", "=meerkat-system"),
	} {
		if out, _, err := n.run("ADD", args); err != nil || strings.TrimSpace(out) != n.prevResult || len(a.asked) > 0 {
			t.Errorf("%s: %v %s", what, err, out)
		}
	}
	n.prevResult = ""
	if _, _, err := n.run("ADD", pod); err == nil || err.Code != types.ErrInvalidNetworkConfig {
		t.Errorf("not chained: %v", err)
	}
}

func TestDelNeverFails(t *testing.T) {
	n := newNode(t)
	if _, complaints, err := n.run("DEL", pod); err != nil || complaints != "" {
		t.Errorf("no agent: %v %s", err, complaints)
	}
	if _, err := os.Stat(n.path("attach")); err == nil {
		t.Error("a directory was made on a node where no agent ever ran")
	}
	a := &agent{err: errors.New("it cannot")}
	n.serve(a)
	if _, complaints, err := n.run("DEL", pod); err != nil || complaints != "" || len(a.asked) != 1 {
		t.Errorf("an agent that fails: %v %s %v", err, complaints, a.asked)
	}
	n.prevResult = `{"cniVersion":"1.0.0","ips":7}`
	if _, complaints, err := n.run("DEL", pod); err != nil || len(a.asked) != 2 {
		t.Errorf("a result that cannot be read: %v %s", err, complaints)
	}
}

func TestOtherCommandsWithoutAgent(t *testing.T) {
	n := newNode(t)
	n.selectors(cni.Selector{Policy: "all"})
	if _, _, err := n.run("CHECK", pod); err != nil {
		t.Errorf("CHECK: %v", err)
	}
	n.version, n.prevResult = "1.1.0", ""
	for _, command := range []string{"STATUS", "GC"} {
		if _, _, err := n.run(command, ""); err != nil {
			t.Errorf("%s: %v", command, err)
		}
	}
}

// TestVersions passes a result of every version of the specification on.
func TestVersions(t *testing.T) {
	n := newNode(t)
	n.serve(&agent{reply: cni.Reply{Decision: cni.Governed}})
	for _, v := range plugin.Versions() {
		n.version = v
		n.prevResult = fmt.Sprintf(`{"cniVersion":%q,"interfaces":[{"name":"eth0","sandbox":"/run/netns/x"}],"ips":[{"version":"4","address":"10.0.0.2/24","interface":0}],"dns":{}}`, v)
		n.starts(v)
	}
	n.version = "0.2.0"
	if _, _, err := n.run("ADD", pod); err == nil || err.Code != types.ErrIncompatibleCNIVersion {
		t.Errorf("0.2.0: %v", err)
	}
}
