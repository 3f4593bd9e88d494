package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/rollout"
	"github.com/meerkat-dev/meerkat/controllers/testcluster"
)

// agentLog is what an agent has written. It is served as kubelet serves logs, to the API server.
type agentLog struct {
	mu    sync.Mutex
	lines []logLine
}

type logLine struct {
	at   time.Time
	text string
}

func (l *agentLog) write(at time.Time, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, logLine{at, text})
}

func (l *agentLog) clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = nil
}

func (l *agentLog) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	since, _ := time.Parse(time.RFC3339, r.URL.Query().Get("sinceTime"))
	var out bytes.Buffer
	for _, line := range l.lines {
		if line.at.Before(since) {
			continue
		}
		if r.URL.Query().Get("timestamps") == "true" {
			fmt.Fprintf(&out, "%s ", line.at.UTC().Format(time.RFC3339Nano))
		}
		fmt.Fprintln(&out, line.text)
	}
	text := out.Bytes()
	if most, err := strconv.Atoi(r.URL.Query().Get("limitBytes")); err == nil {
		text = text[:min(most, len(text))]
	}
	_, _ = w.Write(text)
}

// rolloutWorld is an API server with one node, whose agent's log is the test's.
type rolloutWorld struct {
	*testcluster.Cluster
	log *agentLog
}

func newRolloutWorld(t *testing.T) *rolloutWorld {
	t.Helper()
	c, err := testcluster.Start(testcluster.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	w := &rolloutWorld{Cluster: c, log: &agentLog{}}
	kubelet := httptest.NewTLSServer(w.log)
	t.Cleanup(kubelet.Close)
	address, ok := kubelet.Listener.Addr().(*net.TCPAddr)
	if !ok {
		t.Fatal("kubelet has no address")
	}
	for _, namespace := range []string{"meerkat-system", "shop"} {
		w.create(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}})
	}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "worker-1"}}
	w.create(t, node)
	node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "127.0.0.1"}}
	node.Status.DaemonEndpoints.KubeletEndpoint.Port = int32(address.Port) //nolint:gosec // a port
	if err := c.Client.Status().Update(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	w.pod(t, "meerkat-system", "meerkat-node-1", "agent", map[string]string{"app.kubernetes.io/name": "meerkat", "app.kubernetes.io/component": "node"})
	return w
}

// create waits for what the API server makes by itself (a namespace's service account).
func (w *rolloutWorld) create(t *testing.T, o client.Object) {
	t.Helper()
	var err error
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if err = w.Client.Create(t.Context(), o); err == nil || !apierrors.IsForbidden(err) && !apierrors.IsNotFound(err) {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (w *rolloutWorld) pod(t *testing.T, namespace, name, container string, labels map[string]string) {
	t.Helper()
	w.create(t, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}})
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: labels},
		Spec: corev1.PodSpec{
			NodeName: "worker-1", ServiceAccountName: name, AutomountServiceAccountToken: new(bool),
			Containers: []corev1.Container{{Name: container, Image: "registry.example/" + container}},
		},
	}
	w.create(t, p)
}

// meerkat runs the command, and gives what it prints and its exit code.
func (w *rolloutWorld) meerkat(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, notes bytes.Buffer
	root := newRoot()
	root.SetArgs(append(args, "--kubeconfig", w.Kubeconfig))
	root.SetOut(&out)
	root.SetErr(&notes)
	err := root.ExecuteContext(t.Context())
	if err == nil {
		return out.String(), notes.String(), exitOK
	}
	failure, ok := errors.AsType[exitError](err)
	if !ok {
		return out.String(), notes.String() + err.Error(), exitUnable
	}
	return out.String(), notes.String() + failure.Error(), failure.code
}

// verdictLine is what an agent writes of a request from shop/client to shop/web.
func verdictLine(at time.Time, verdict, policy, method, path string) string {
	return fmt.Sprintf(`{"kind":"verdict","time":%q,"verdict":%q,"node":"worker-1","policies":[%q],"direction":"Ingress","layer":7,"protocol":"TCP",`+
		`"client":{"address":"10.244.1.10:48954","name":"shop/client"},"server":{"address":"10.244.1.12:8080","name":"shop/web"},"application":"http",`+
		`"http":{"version":"1","method":%q,"path":%q,"host":"web.shop"},"why":["pages: path %s is not under /public/"]}`, at.UTC().Format(time.RFC3339Nano), verdict, policy, method, path, path)
}

// inForce writes the status as the manager does, when all nodes apply the policy.
func (w *rolloutWorld) inForce(t *testing.T, p *v1alpha1.L7Policy) {
	t.Helper()
	p.Status = v1alpha1.L7PolicyStatus{
		ObservedGeneration: p.Generation, Nodes: &v1alpha1.NodeCounts{Desired: 1, Programmed: 1},
		Conditions: []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: "Ready", LastTransitionTime: metav1.Now()}},
	}
	if err := w.Client.Status().Update(t.Context(), p); err != nil {
		t.Fatal(err)
	}
}

// TestRolloutOnAPIServer goes the way from Audit to Enforce on a real API server, which reads an agent's log as it does from a kubelet.
func TestRolloutOnAPIServer(t *testing.T) {
	w := newRolloutWorld(t)
	web := &v1alpha1.L7Policy{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}}
	web.Spec = v1alpha1.L7PolicySpec{
		PodSelector: metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}, Mode: v1alpha1.ModeAudit,
		Ingress: []v1alpha1.IngressRule{{Name: "pages", L7: []v1alpha1.L7Match{{HTTP: &v1alpha1.HTTPMatch{Methods: []string{"GET"}}}}}},
	}
	w.create(t, web)
	w.inForce(t, web)
	made := web.CreationTimestamp.Time
	// The policy's time is in whole seconds; evidence of one second is asked for when that is behind.
	for !time.Now().After(made.Add(3 * time.Second)) {
		time.Sleep(50 * time.Millisecond)
	}
	w.log.write(made.Add(-time.Minute), `{"msg":"started"}`)
	now := time.Now()

	// It would have denied something: the audit says what, and the gate stays shut.
	w.log.write(now, verdictLine(now, "audit", "shop/web", "DELETE", "/orders/17"))
	out, notes, code := w.meerkat(t, "audit", "-o", "json")
	var report rollout.Report
	if err := json.Unmarshal([]byte(out), &report); code != exitOK || err != nil || len(report.Policies) != 1 || report.Policies[0].Count != 1 ||
		report.Policies[0].WouldDeny[0].Request != "DELETE web.shop/orders/{number}" || len(report.Policies[0].Gaps) > 0 {
		t.Errorf("audit: %d, %v, %s\n%s", code, err, notes, out)
	}
	out, notes, code = w.meerkat(t, "promote", "shop/web", "--since", "1s", "--no-traffic")
	if code != 3 || !strings.Contains(out, "it would have denied 1 request") || !strings.Contains(out, "DELETE web.shop/orders/{number}") {
		t.Errorf("promote of one that would deny: %d, %s\n%s", code, notes, out)
	}
	for _, form := range []string{"json", "yaml"} {
		if out, notes, code = w.meerkat(t, "promote", "shop/web", "--since", "1s", "--no-traffic", "-o", form); code != 3 || out != "" || !strings.Contains(notes, "would have denied") {
			t.Errorf("the patch of one that would deny: %d, %s\n%s", code, notes, out)
		}
	}
	if out, _, code = w.meerkat(t, "promote", "shop/web", "--since", "1s", "--no-traffic", "--apply"); code != 3 || w.mode(t) != v1alpha1.ModeAudit {
		t.Errorf("--apply in spite of it: %d, it is in mode %s\n%s", code, w.mode(t), out)
	}

	// Evidence that is missing keeps it shut, too.
	for name, lines := range map[string][]logLine{
		"left 12 events out":         {{made.Add(-time.Minute), "{}"}, {now, fmt.Sprintf(`{"kind":"lost","time":%q,"node":"worker-1","lost":12}`, time.Now().UTC().Format(time.RFC3339Nano))}},
		"its log begins at":          {{time.Now().Add(-10 * time.Millisecond), "{}"}},
		"nothing tells where it beg": nil,
	} {
		w.log.clear()
		for _, l := range lines {
			w.log.write(l.at, l.text)
		}
		if out, notes, code = w.meerkat(t, "promote", "shop/web", "--since", "1m", "--no-traffic"); code != 3 || !strings.Contains(out, name) {
			t.Errorf("promote with %s: %d, %s\n%s", name, code, notes, out)
		}
	}
	w.log.clear()
	w.log.write(made.Add(-time.Minute), `{"msg":"started"}`)
	for _, c := range []struct{ args, says string }{
		{"promote shop/web --since 10h --no-traffic", "and evidence of 10h was asked for"},
		{"promote shop/web --since 1s", "no connection has come to the ports"},
		{"promote shop/web --since 1s", "how much traffic the policy saw is not known"}, // there is a Pod, and its node does not answer
	} {
		if strings.Contains(c.says, "not known") {
			w.pod(t, "shop", "web", "web", map[string]string{"app": "web"})
		}
		if out, notes, code = w.meerkat(t, strings.Fields(c.args)...); code != 3 || !strings.Contains(out, c.says) {
			t.Errorf("%s: %d, %s\n%s", c.args, code, notes, out)
		}
	}

	// Nothing is against it: the command works as it is printed, but not after a change.
	out, notes, code = w.meerkat(t, "promote", "shop/web", "--since", "1s", "--no-traffic")
	if code != exitOK {
		t.Fatalf("promote: %d, %s\n%s", code, notes, out)
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	command := strings.Replace(lines[len(lines)-1], "kubectl", w.Kubectl, 1)
	patch, _, code := w.meerkat(t, "promote", "shop/web", "--since", "1s", "--no-traffic", "-o", "json")
	if code != exitOK || !strings.Contains(command, strings.TrimSpace(patch)) {
		t.Errorf("the patch alone is %q, not that of %s", patch, command)
	}
	w.setMethods(t, "GET", "HEAD")
	if text, err := exec.CommandContext(t.Context(), "sh", "-c", command).CombinedOutput(); err == nil || w.mode(t) != v1alpha1.ModeAudit {
		t.Errorf("a patch for a policy that was changed: %s", text)
	}
	if _, notes, code = w.meerkat(t, "promote", "shop/web", "--since", "1h", "--no-traffic"); code != 3 {
		t.Errorf("evidence from before a change counts: %s", notes)
	}
	w.inForce(t, w.policy(t))
	changed := time.Now()
	for !time.Now().After(changed.Add(3 * time.Second)) {
		time.Sleep(50 * time.Millisecond)
	}
	out, notes, code = w.meerkat(t, "promote", "shop/web", "--since", "1s", "--no-traffic")
	if code != exitOK {
		t.Fatalf("promote after a change: %d, %s\n%s", code, notes, out)
	}
	lines = strings.Split(strings.TrimSpace(out), "\n")
	if text, err := exec.CommandContext(t.Context(), "sh", "-c", strings.Replace(lines[len(lines)-1], "kubectl", w.Kubectl, 1)).CombinedOutput(); err != nil || w.mode(t) != v1alpha1.ModeEnforce {
		t.Errorf("%s: %v\n%s", lines[len(lines)-1], err, text)
	}

	// What is enforced stays so; --apply does what the command does.
	if out, notes, code = w.meerkat(t, "promote", "shop/web", "-o", "json"); code != exitOK || strings.TrimSpace(out) != "[]" || !strings.Contains(notes, "in mode Enforce already") {
		t.Errorf("one that is enforced: %d, %s\n%s", code, notes, out)
	}
	p := w.policy(t)
	p.Spec.Mode = v1alpha1.ModeAudit
	if err := w.Client.Update(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	w.inForce(t, p)
	changed = time.Now()
	for !time.Now().After(changed.Add(3 * time.Second)) {
		time.Sleep(50 * time.Millisecond)
	}
	if out, notes, code = w.meerkat(t, "promote", "shop/web", "--since", "1s", "--no-traffic", "--apply"); code != exitOK || w.mode(t) != v1alpha1.ModeEnforce {
		t.Errorf("--apply: %d, %s, it is in mode %s\n%s", code, notes, w.mode(t), out)
	}
	if _, notes, code = w.meerkat(t, "promote", "shop/none"); code != exitUsage || !strings.Contains(notes, "there is no L7Policy shop/none") {
		t.Errorf("one that is not: %d, %s", code, notes)
	}
}

func (w *rolloutWorld) policy(t *testing.T) *v1alpha1.L7Policy {
	t.Helper()
	var p v1alpha1.L7Policy
	if err := w.Client.Get(context.WithoutCancel(t.Context()), client.ObjectKey{Namespace: "shop", Name: "web"}, &p); err != nil {
		t.Fatal(err)
	}
	return &p
}

func (w *rolloutWorld) mode(t *testing.T) v1alpha1.Mode { return w.policy(t).Spec.Mode }

func (w *rolloutWorld) setMethods(t *testing.T, methods ...string) {
	t.Helper()
	p := w.policy(t)
	p.Spec.Ingress[0].L7[0].HTTP.Methods = methods
	if err := w.Client.Update(t.Context(), p); err != nil {
		t.Fatal(err)
	}
}
