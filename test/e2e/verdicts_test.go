package e2e

import (
	"strings"
	"testing"
)

const storefront = `
apiVersion: inspection.meerkat.dev/v1alpha1
kind: L7Policy
metadata: {name: storefront, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress:
  - name: public-pages
    from: [{podSelector: {matchLabels: {role: client}}}]
    ports: [{protocol: TCP, port: http}]
    l7:
    - http: {methods: [GET, HEAD], path: {prefix: /public/}}
`

const purchases = `
apiVersion: inspection.meerkat.dev/v1alpha1
kind: L7Policy
metadata: {name: purchases, namespace: shop}
spec:
  podSelector: {matchLabels: {role: client}}
  egress:
  - name: orders
    to: [{podSelector: {matchLabels: {app: web}}}]
    ports: [{protocol: TCP, port: 8080}]
    l7:
    - http: {methods: [POST], path: {prefix: /orders/}}
`

// ingress governs the server, changes its policy, and deletes it.
func ingress(t *testing.T, w *world) {
	w.Apply(t, storefront)
	w.ready(t, "storefront")
	w.everywhere(t, yes("GET /public/a"), yes("HEAD /public/b"), no("GET /private/a"), yes("GET /public/c"), no("DELETE /public/d"))

	changed := strings.NewReplacer("/public/", "/private/").Replace(storefront)
	if _, err := w.Try(t.Context(), changed, "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	w.ready(t, "storefront")
	w.everywhere(t, yes("GET /private/e"), no("GET /public/e"), yes("GET /private/f"))

	w.Remove(t, changed)
	w.asFound(t)
	w.everywhere(t, yes("DELETE /public/g"), yes("GET /anything"))
	for _, denied := range []string{"GET /private/a", "DELETE /public/d", "GET /public/e"} {
		if n := w.reached(t, "reached "+denied+" "); n != 0 {
			t.Errorf("%s was denied, and reached the server %d times", denied, n)
		}
	}
}

// egress governs the clients, and then both ends.
func egress(t *testing.T, w *world) {
	w.Apply(t, purchases)
	w.ready(t, "purchases")
	w.everywhere(t, yes("POST /orders/1"), no("GET /orders/2"), yes("POST /orders/3"), no("POST /refunds/4"))

	both := strings.NewReplacer("GET, HEAD", "GET, HEAD, POST", "prefix: /public/", "regex: /(public/|orders/1).*").Replace(storefront)
	w.Apply(t, both)
	w.ready(t, "storefront")
	w.everywhere(t, yes("POST /orders/11"), no("POST /orders/25"), no("GET /public/26"), yes("POST /orders/12"))
	traced(t)

	w.Remove(t, both)
	w.Remove(t, purchases)
	w.asFound(t)
	for _, denied := range []string{"GET /orders/2", "POST /refunds/4", "POST /orders/25", "GET /public/26"} {
		if n := w.reached(t, "reached "+denied+" "); n != 0 {
			t.Errorf("%s was denied, and reached the server %d times", denied, n)
		}
	}
}

// everywhere lets both clients make the attempts on one connection each, by both addresses.
func (w *world) everywhere(t *testing.T, attempts ...attempt) {
	t.Helper()
	for _, client := range []string{nearClient, farClient} {
		for name, address := range w.addresses(t) {
			w.expect(t, client, name, address, attempts...)
		}
	}
}
