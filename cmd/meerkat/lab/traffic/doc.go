// Package traffic is the lab's traffic: a server that records every byte that reaches it, and clients that say exactly what
// became of each request.
//
// The server speaks whatever arrives, by looking at the first bytes: HTTP/1.x, HTTP/2 in clear text (also by upgrade), TLS with
// HTTP inside, SSH's banner, and DNS on ports that are named so. It reads leniently, since what a strict server would refuse to
// understand, a lenient one might serve: a request that slipped past a policy must show, whatever its shape.
//
//	rec := traffic.NewRecorder()
//	srv, err := traffic.Listen("shop/web", []traffic.Port{{Number: 8080, Name: "http"}}, rec) // in the Pod's namespace
//	…
//	conn, err := traffic.Connect(ctx, dial, "tcp", "10.0.0.7:8080")
//	result := conn.HTTP(ctx, traffic.HTTPRequest{Target: "/public/a"})
//	seen := rec.From(result.Local.Port(), result.Start)
package traffic
