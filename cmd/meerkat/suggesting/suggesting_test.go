package suggesting

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/manifests"
	"github.com/meerkat-dev/meerkat/dataplane/verdict"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// shop has the Pods of a shop: a Deployment's, with clients in two namespaces.
func shop(t *testing.T, o Options) *Collector {
	t.Helper()
	yes := true
	deployed := func(namespace, name, hash, suffix, address string, set map[string]string) corev1.Pod {
		p := somePod(namespace, name+"-"+hash+"-"+suffix, address, set)
		p.Labels["pod-template-hash"], p.GenerateName = hash, name+"-"+hash+"-"
		p.OwnerReferences = []metav1.OwnerReference{{Kind: "ReplicaSet", Name: name + "-" + hash, Controller: &yes}}
		return p
	}
	o.Pod = types.NamespacedName{Namespace: "shop", Name: "web-1-aaaaa"}
	o.Pods = []corev1.Pod{
		deployed("shop", "web", "1", "aaaaa", "10.0.0.1", map[string]string{"app": "web"}),
		deployed("shop", "web", "1", "bbbbb", "10.0.0.2", map[string]string{"app": "web"}),
		deployed("shop", "client", "2", "ccccc", "10.0.0.3", map[string]string{"role": "client"}),
		deployed("bank", "teller", "3", "ddddd", "10.0.0.4", map[string]string{"app": "teller", "tier": "front"}),
		somePod("kube-system", "coredns", "10.0.0.5", map[string]string{"k8s-app": "kube-dns"}),
		somePod("shop", "bare", "10.0.0.6", nil),
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Open("testdata/events.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close() //nolint:errcheck // it was read
	for lines := bufio.NewScanner(file); lines.Scan(); {
		var v verdict.Event
		if err := json.Unmarshal(lines.Bytes(), &v); err != nil {
			t.Fatal(err)
		}
		c.Add(&v)
	}
	return c
}

func auditing(name, spec string) v1alpha1.L7Policy {
	p := v1alpha1.L7Policy{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}}
	if err := yaml.UnmarshalStrict([]byte(spec), &p.Spec); err != nil {
		panic(err)
	}
	return p
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile("testdata/"+name, []byte(got), 0o644); err != nil { //nolint:gosec // for everybody to read
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/" + name) //nolint:gosec // a golden file
	if err != nil || got != string(want) {
		t.Errorf("%v; testdata/%s is not:\n%s", err, name, got)
	}
}

func TestPolicies(t *testing.T) {
	recorder := auditing("web-recorder", `{mode: Audit, podSelector: {matchLabels: {app: web}}, ingress: [{name: nobody-ingress}]}`)
	recorder.Annotations = map[string]string{"inspection.meerkat.dev/recorder": "true"}
	for name, o := range map[string]Options{
		"web.yaml":     {Paths: 3},
		"web.all.yaml": {Name: "everything", Scope: v1alpha1.ScopeAllPorts, Connections: true},
		"web.kept.yaml": {Paths: 3, Policies: []v1alpha1.L7Policy{
			recorder,
			auditing("pages", `{mode: Audit, podSelector: {}, ingress: [{name: from-client-8080, ports: [{port: 8080}], l7: [{http: {methods: [HEAD]}}]}, {ports: [{port: 9090}]}]}`),
			auditing("enforced", `{mode: Enforce, podSelector: {}, ingress: [{name: other}]}`),
			auditing("others", `{mode: Audit, podSelector: {matchLabels: {app: db}}, ingress: [{name: other}]}`),
		}},
	} {
		s, err := shop(t, o).Make()
		if err != nil || s == nil {
			t.Fatalf("%s: %v", name, err)
		}
		text, err := s.YAML([]string{"node worker-1 left 12 events out"})
		if err != nil {
			t.Fatal(err)
		}
		golden(t, name, text)
		var p v1alpha1.L7Policy
		if err := yaml.UnmarshalStrict([]byte(text), &p); err != nil {
			t.Fatal(err)
		}
		if errs := manifests.ValidateL7Policy(&p); len(errs) > 0 {
			t.Errorf("%s: %v", name, errs.ToAggregate())
		}
	}
}

func TestRecorder(t *testing.T) {
	c := shop(t, Options{})
	text, err := c.Recorder()
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "recorder.yaml", text)
	var p v1alpha1.L7Policy
	if err := yaml.UnmarshalStrict([]byte(text), &p); err != nil {
		t.Fatal(err)
	}
	if errs := manifests.ValidateL7Policy(&p); len(errs) > 0 {
		t.Error(errs.ToAggregate())
	}
	empty, err := New(Options{Pod: c.o.Pod, Pods: c.o.Pods})
	if err != nil {
		t.Fatal(err)
	}
	if s, err := empty.Make(); s != nil || err != nil {
		t.Errorf("of nothing there is %v, %v", s, err)
	}
}

func TestRefuses(t *testing.T) {
	host := somePod("shop", "host", "10.0.0.9", map[string]string{"app": "host"})
	host.Spec.HostNetwork = true
	pods := []corev1.Pod{host, somePod("shop", "bare", "10.0.0.6", map[string]string{"pod-template-hash": "1"})}
	for name, says := range map[string]string{"none": "there is no Pod shop/none", "host": "uses its node's network", "bare": "give its workload one, such as app: bare"} {
		_, err := New(Options{Pod: types.NamespacedName{Namespace: "shop", Name: name}, Pods: pods})
		if _, question := errors.AsType[*QuestionError](err); !question || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What does not fit into one policy is refused with what to do; a rule holds as much as it may.
func TestLimits(t *testing.T) {
	w := &town{pods: []corev1.Pod{somePod("shop", "web-0", subject, map[string]string{"app": "web"}), somePod("shop", "x", "10.0.0.2", map[string]string{"app": "x"})}}
	for count, paths := range map[int]int{64 * 64: 0, 64*64 + 1: 0, 200: 10} {
		c, err := New(Options{Pod: types.NamespacedName{Namespace: "shop", Name: "web-0"}, Pods: w.pods, Paths: paths})
		if err != nil {
			t.Fatal(err)
		}
		for i := range count {
			v := w.event(&call{port: 80, kind: "http", method: "GET", path: fmt.Sprint("/a/", i), host: "web.shop"}, time.Unix(int64(i), 0))
			c.Add(&v)
		}
		s, err := c.Make()
		switch {
		case count > 64*64:
			if err == nil || !strings.Contains(err.Error(), "--paths") {
				t.Errorf("%d paths: %v", count, err)
			}
		case err != nil:
			t.Error(err)
		case paths == 0:
			if n := len(s.Policy.Spec.Ingress); n != 64 || s.Requests != count {
				t.Errorf("%d paths take %d rules", count, n)
			}
			if errs := manifests.ValidateL7Policy(&s.Policy); len(errs) > 0 {
				t.Error(errs.ToAggregate())
			}
		default:
			if m := s.Policy.Spec.Ingress[0].L7; len(m) != 1 || m[0].HTTP.Path.Prefix == nil || *m[0].HTTP.Path.Prefix != "/a/" {
				t.Errorf("%d paths become %+v", count, m)
			}
		}
	}
}

func TestUnique(t *testing.T) {
	taken := map[string]bool{}
	long := strings.Repeat("x", 70)
	for _, c := range [][2]string{{"from-A.b_c-80", "from-a-b-c-80"}, {"from-a-b-c-80", "from-a-b-c-80-2"}, {"from-a-b-c-80", "from-a-b-c-80-3"}, {"--", "rule"}, {long, long[:58]}, {long, long[:58] + "-2"}} {
		if got := unique(c[0], taken); got != c[1] {
			t.Errorf("%s becomes %s, want %s", c[0], got, c[1])
		}
	}
}
