// Package api tests Meerkat's resource definitions on a real API server: each of their CEL rules, what `kubectl explain` and
// `kubectl get` print, and that applying twice changes nothing.
package api
