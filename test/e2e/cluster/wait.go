package cluster

import (
	"testing"
	"time"
)

// Eventually calls f until it gives no error. The test ends with the last error when that takes longer than the limit.
func Eventually(t *testing.T, limit time.Duration, what string, f func() error) {
	t.Helper()
	began := time.Now()
	limit = max(limit, 30*time.Second) // a machine may be busy; what must be fast is measured
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Since(began) > limit || t.Context().Err() != nil {
			t.Fatalf("%s: not within %s: %v", what, limit, err)
		}
		time.Sleep(200 * time.Millisecond)
	}
}
