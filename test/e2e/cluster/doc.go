// Package cluster lets end-to-end tests use a real cluster: through kubectl, as users do, and on its nodes, to see what is left
// there and to break things. hack/e2e.sh brings a cluster up and sets the environment:
//
//	MEERKAT_E2E            must be 1; without it tests are skipped
//	KUBECONFIG             an administrator's
//	MEERKAT_E2E_NODE_EXEC  what runs a command on a node: followed by the node's name and the command
//	MEERKAT_E2E_SERVICE    what stops and starts a service of a machine, with SERVICE in the place of stop or start; for tests that
//	                       take the API server or a kubelet away
package cluster
