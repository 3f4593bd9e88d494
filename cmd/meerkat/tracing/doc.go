// Package tracing answers why a request passes or not: it follows it from the client to the server and its answer back, edge by edge, by what
// the nodes' switches say of their present flows, and judges it by the allow-lists that the engines have. Nothing is sent.
package tracing
