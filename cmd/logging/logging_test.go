package logging

import "testing"

func TestLevel(t *testing.T) {
	for text, want := range map[string]int{"error": 2, "info": 0, "debug": -1, "0": 0, "1": -1, "63": -63} {
		if got, err := Level(text); err != nil || int(got) != want {
			t.Errorf("%s is %d (%v), not %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "warn", "-1", "64", "1.5", "debug "} {
		if got, err := Level(text); err == nil {
			t.Errorf("%q is taken for %d", text, got)
		}
	}
}
