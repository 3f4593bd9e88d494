package agent

import (
	"os"
	"testing"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/controllers/testcluster"
)

var cluster *testcluster.Cluster

func TestMain(m *testing.M) {
	if os.Getenv(orderVariable) != "" { // an agent's process needs no cluster of its own
		os.Exit(m.Run())
	}
	os.Exit(testcluster.Main(m, testcluster.Options{}, func(c *testcluster.Cluster) { cluster = c }))
}

const webPolicy = `
metadata: {name: web}
spec:
  podSelector: {matchLabels: {app: web}}
  failurePolicy: Closed
  ingress:
  - name: public-pages
    from: [{podSelector: {matchLabels: {role: client}}}]
    ports: [{port: http}]
    l7:
    - http: {methods: [GET], path: {prefix: /public/}}
`

// shop makes a client, a stranger and a server.
func (w *world) shop() {
	w.addPod("client", map[string]string{"role": "client"})
	w.addPod("stranger", map[string]string{"role": "stranger"})
	w.addPod("web", map[string]string{"app": "web"})
}

func inForce(s *v1alpha1.NodeInspectionStatus) bool {
	p := of(s, "web")
	return p != nil && p.Programmed && p.Enforced
}

func TestPolicyIsEnforced(t *testing.T) {
	w := newWorld(t, cluster)
	w.shop()
	p := w.startAgent()
	w.allowed("stranger", "/before")
	w.applyWeb()
	s := w.report("the policy is in force", inForce)
	if s.GovernedPods != 1 || s.PolicyCount != 1 || of(s, "web").Pods != 1 || s.Engine == nil || s.Engine.Version == "" || s.Engine.RuleSets != 1 {
		t.Errorf("the report is %+v", s)
	}
	w.allowed("client", "/public/a")
	w.denied("client", "/secret")
	w.denied("stranger", "/public/b")
	w.report("a denial is counted", func(s *v1alpha1.NodeInspectionStatus) bool { return of(s, "web").Denied > 0 })
	if w.passes("/secret") != 0 || w.passes("/public/b") != 0 {
		t.Error("a forbidden request reached the server")
	}
	p.end()
	w.denied("client", "/secret")
	w.allowed("client", "/public/c")
}
