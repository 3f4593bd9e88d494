package spelling

import "testing"

func TestNearest(t *testing.T) {
	known := []string{"method", "methods", "path", "pipeline", "ssh", "smb"}
	for word, want := range map[string]string{
		"method":   "method",
		"Metods":   "methods",
		"pth":      "path",
		"hpat":     "", // two letters in a short word
		"piepline": "pipeline",
		"sbm":      "",
		"sshh":     "ssh",
		"banana":   "",
		"":         "",
	} {
		if got := Nearest(word, known); got != want {
			t.Errorf("Nearest(%q) = %q, not %q", word, got, want)
		}
	}
	if got := Nearest("x", nil); got != "" {
		t.Errorf("without candidates it is %q", got)
	}
}
