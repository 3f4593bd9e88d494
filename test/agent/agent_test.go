package agent

import (
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/controllers/testcluster"
)

var cluster *testcluster.Cluster

func TestMain(m *testing.M) {
	if os.Getenv(orderVariable) != "" { // an agent's process needs no cluster of its own
		os.Exit(m.Run())
	}
	code := testcluster.Main(m, testcluster.Options{}, func(c *testcluster.Cluster) { cluster = c })
	if engines.cluster != nil {
		if err := engines.cluster.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, "stopping the second test cluster:", err)
			code = max(code, 1)
		}
	}
	os.Exit(code)
}

// engines is the cluster of tests that make the Engine, which is one for all nodes of a cluster: they take turns.
var engines struct {
	sync.Mutex
	cluster *testcluster.Cluster
}

// engineCluster gives that cluster until the test's end, and after all that the test cleans up.
func engineCluster(t *testing.T) *testcluster.Cluster {
	t.Helper()
	engines.Lock()
	t.Cleanup(engines.Unlock)
	if engines.cluster == nil {
		var err error
		if engines.cluster, err = testcluster.Start(testcluster.Options{}); err != nil {
			t.Fatal(err)
		}
	}
	return engines.cluster
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
	t.Parallel()
	w := newWorld(t, cluster)
	w.shop()
	address := freeAddress(t)
	p := w.startAgentWith(func(o *order) { o.Metrics = address })
	w.allowed("stranger", "/before")
	w.applyWeb()
	s := w.report("the policy is in force", inForce)
	if s.GovernedPods != 1 || s.PolicyCount != 1 || of(s, "web").Pods != 1 || s.Engine == nil || s.Engine.Version == "" || s.Engine.RuleSets != 1 {
		t.Errorf("the report is %+v", s)
	}
	w.allowed("client", "/public/a")
	w.denied("client", "/secret")
	w.denied("stranger", "/public/b")
	w.traces()
	w.report("a denial is counted", func(s *v1alpha1.NodeInspectionStatus) bool { return of(s, "web").Denied > 0 })
	if w.passes("/secret") != 0 || w.passes("/public/b") != 0 {
		t.Error("a forbidden request reached the server")
	}
	w.checkMetrics(address)
	p.end()
	w.denied("client", "/secret")
	w.allowed("client", "/public/c")
}
