// Package testcluster gives tests an API server of their own: a real etcd and a real kube-apiserver with Meerkat's resource
// definitions, and nothing else: no scheduler, no controller manager, no nodes. What is in such a cluster is what the test writes.
// One cluster serves a whole test package, from its TestMain:
//
//	var cluster *testcluster.Cluster
//
//	func TestMain(m *testing.M) {
//		os.Exit(testcluster.Main(m, testcluster.Options{}, func(c *testcluster.Cluster) { cluster = c }))
//	}
//
// The programs are those of hack/kube/build.sh, which builds what is missing (minutes, once), or those in the directory that
// KUBEBUILDER_ASSETS names.
package testcluster
