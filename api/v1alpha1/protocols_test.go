package v1alpha1_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/engine"
)

// TestAppProtocols compares the names with those that the real engine identifies.
func TestAppProtocols(t *testing.T) {
	suricata, err := engine.Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	output, err := exec.CommandContext(t.Context(), suricata.Path, "--list-app-layer-protos").Output()
	if err != nil {
		t.Fatal(err)
	}
	_, list, found := strings.Cut(string(output), "Supported App Layer Protocols=========\n")
	if !found {
		t.Fatalf("the engine's list has no heading:\n%s", output)
	}
	want := slices.DeleteFunc(strings.Fields(list), func(name string) bool { return name == "doh2" })
	slices.Sort(want)
	if got := v1alpha1.AppProtocols(); !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v, as Suricata %s lists them", got, want, suricata.Version)
	}
}

// TestAppProtocolTransports holds every protocol to at least one transport that the engine inspects.
func TestAppProtocolTransports(t *testing.T) {
	for _, name := range v1alpha1.AppProtocols() {
		transports := v1alpha1.AppProtocolTransports(name)
		if len(transports) == 0 {
			t.Errorf("%s has no transport", name)
		}
		for _, transport := range transports {
			if transport != v1alpha1.ProtocolTCP && transport != v1alpha1.ProtocolUDP {
				t.Errorf("%s runs over %s, which is not inspected", name, transport)
			}
		}
	}
	if got := v1alpha1.AppProtocolTransports("none"); got != nil {
		t.Errorf("got %v for an unknown protocol, want nil", got)
	}
}
