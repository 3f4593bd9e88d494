// Package rights_test runs the manager and a node's agent against a real API server, each with the identity and the rights that
// dist/install.yaml gives it, and compares what the API server's audit log says they did with what they may do.
package rights_test
