// Package load tests the data plane under load: many connections, many changes, much data. Its figures are for this machine, so
// nothing else should run beside it.
package load
