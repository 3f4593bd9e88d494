package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/controllers/testcluster"
	"github.com/meerkat-dev/meerkat/dataplane/sidecar"
)

// sidecarAlertText is an alert as an engine writes it, about a request from one Pod to another.
const sidecarAlertText = `{"timestamp":"2026-11-22T10:00:00.000000+0000","flow_id":1,"event_type":"alert","src_ip":"10.9.0.3","src_port":40000,` +
	`"dest_ip":"10.9.0.2","dest_port":8080,"proto":"TCP","app_proto":"http","direction":"to_server",` +
	`"alert":{"action":"allowed","gid":1,"signature_id":7,"rev":1,"signature":"evil","severity":1}}`

// lockedBuffer is written to by the agent, and read by the test.
type lockedBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *lockedBuffer) text() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.String()
}

// An agent takes a report from whoever has the token of a Pod of its node, made for this, and from nobody else; and whatever the report
// says, it is about that Pod.
func TestSidecarServer(t *testing.T) {
	cluster, err := testcluster.Start(testcluster.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cluster.Stop() })
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	space := cluster.Namespace(t, "shop", nil)
	must(cluster.Client.Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: space, Name: "default"}}))
	pod := func(name, node, address string, labels map[string]string) *corev1.Pod {
		p := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: space, Name: name, Labels: labels, Annotations: map[string]string{sidecar.AnnotationSidecars: "web"}},
			Spec:       corev1.PodSpec{NodeName: node, ServiceAccountName: "default", Containers: []corev1.Container{{Name: "web", Image: "none"}}},
		}
		must(cluster.Client.Create(t.Context(), p))
		p.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIP: address, PodIPs: []corev1.PodIP{{IP: address}}}
		must(cluster.Client.Status().Update(t.Context(), p))
		return p
	}
	web := map[string]string{"app": "web"}
	here, other, elsewhere := pod("web-1", "n1", "10.9.0.2", web), pod("db-1", "n1", "10.9.0.4", nil), pod("client-1", "n2", "10.9.0.3", web)
	must(cluster.Client.Create(t.Context(), &v1alpha1.TrafficInspection{
		ObjectMeta: metav1.ObjectMeta{Namespace: space, Name: "web"},
		Spec: v1alpha1.TrafficInspectionSpec{
			PodSelector: metav1.LabelSelector{MatchLabels: web}, Placement: v1alpha1.PlacementSidecar,
			RuleSets: []v1alpha1.RuleSetReference{{Name: "local"}},
		},
	}))
	out := &lockedBuffer{}
	a, err := New(Config{Node: "n1", REST: cluster.Config, StateDir: t.TempDir(), NetnsDir: t.TempDir(), MTU: 1500, Verdicts: out, Log: logr.Discard()})
	must(err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	must(a.cluster.start(ctx, func() {}))
	if !a.cluster.synced(ctx) {
		t.Fatal("not synced")
	}
	a.heard.Store(true)
	server := newSidecarServer(a)

	set := kubernetes.NewForConfigOrDie(cluster.Config)
	token := func(p *corev1.Pod, audience string) string {
		request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{}}
		if audience != "" {
			request.Spec.Audiences = []string{audience}
		}
		if p != nil {
			request.Spec.BoundObjectRef = &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: p.Name, UID: p.UID}
		}
		got, err := set.CoreV1().ServiceAccounts(space).CreateToken(t.Context(), "default", request, metav1.CreateOptions{})
		must(err)
		return got.Status.Token
	}
	send := func(from, path, token, body string) int {
		request := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
		request.RemoteAddr = from + ":5000"
		if token != "" {
			request.Header.Set("Authorization", "Bearer "+token)
		}
		answer := httptest.NewRecorder()
		server.ServeHTTP(answer, request)
		return answer.Code
	}
	report := fmt.Sprintf(`{"started":"2026-11-22T10:00:00Z","inspecting":true,"content":"abc","ruleSets":[{"name":"%s/local","revision":"r1"},{"name":"%s/others","revision":"r2"}],`+
		`"alerts":[{"ruleSets":[0,1],"record":%s}]}`, space, space, sidecarAlertText)
	good, path := token(here, sidecar.Audience), sidecar.ReportPath+"web"
	for _, c := range []struct {
		what, from, path, token, body string
		want                          int
	}{
		{"no token", "10.9.0.2", path, "", report, 401},
		{"nonsense", "10.9.0.2", path, "nonsense", report, 401},
		{"a token for the API server", "10.9.0.2", path, token(here, ""), report, 401},
		{"a token of no Pod", "10.9.0.2", path, token(nil, sidecar.Audience), report, 401},
		{"a Pod of another node", "10.9.0.2", path, token(elsewhere, sidecar.Audience), report, 503},
		{"a Pod that is not selected", "10.9.0.4", path, token(other, sidecar.Audience), report, 404},
		{"another inspection", "10.9.0.2", sidecar.ReportPath + "others", good, report, 404},
		{"from another machine", "192.0.2.1", path, good, report, 403},
		{"no report", "10.9.0.2", path, good, "nonsense", 400},
		{"too large", "10.9.0.2", path, good, `{"message":"` + strings.Repeat("x", sidecar.MaxBody) + `"}`, 413},
	} {
		if got := send(c.from, c.path, c.token, c.body); got != c.want {
			t.Errorf("%s: answered by %d, want %d", c.what, got, c.want)
		}
	}
	if out.text() != "" || len(a.sidecars.by) > 0 {
		t.Fatalf("something was taken: %s", out.text())
	}
	if got := send("10.9.0.2", path, good, report); got != 200 {
		t.Fatalf("a report is answered by %d", got)
	}
	var event struct {
		Inspections         []string
		Direction           string
		RuleSets            []struct{ Name, Revision string }
		Source, Destination struct{ Name string }
	}
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		err := json.Unmarshal([]byte(out.text()), &event)
		if err == nil {
			break
		}
		if time.Since(began) > 5*time.Second {
			t.Fatal(errors.Join(err, errors.New(out.text())))
		}
	}
	if !slices.Equal(event.Inspections, []string{space + "/web"}) || event.Direction != "Ingress" || event.Source.Name != space+"/client-1" ||
		event.Destination.Name != space+"/web-1" || len(event.RuleSets) != 1 || event.RuleSets[0].Name != space+"/local" {
		t.Errorf("the event is %+v", event)
	}
	facts := a.sidecarFacts(t.Context())
	if len(facts) != 1 || len(facts[0].pods) != 1 || !facts[0].pods[0].has || !facts[0].pods[0].state.inspecting || facts[0].pods[0].state.content != "abc" {
		t.Errorf("%+v", facts)
	}
}
