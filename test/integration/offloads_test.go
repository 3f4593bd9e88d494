package integration

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/network"
	"github.com/meerkat-dev/meerkat/dataplane/attach"
	"github.com/meerkat-dev/meerkat/test/testlab"
)

// TestChangedInterfacesAreMended switches offloads on, and changes MTUs, at every interface on an interposed Pod's way: they are set
// right at once, traffic passes, and the policy says what happened.
func TestChangedInterfacesAreMended(t *testing.T) {
	l := testlab.Start(t, labs.Options(t), serviceObjects, servicePolicy)
	client := types.NamespacedName{Namespace: "shop", Name: "client"}
	inPod := func(command ...string) string { return output(t, l.Command(t.Context(), client, command...)) }
	onNode := func(command ...string) string {
		return output(t, network.NewCommand(t.Context(), l.NodeNetns("node-1"), command...))
	}
	interfaces := onNode("ip", "-o", "link", "show")
	port := regexp.MustCompile(attach.PodPortPrefix + `[0-9a-f]+`).FindString(interfaces)
	pair := regexp.MustCompile(`(veth\w+)@(` + attach.UplinkPortPrefix + `[0-9a-f]+)`).FindStringSubmatch(interfaces)
	if port == "" || pair == nil {
		t.Fatalf("no Pod is interposed:\n%s", interfaces)
	}
	hostEnd, uplink := pair[1], pair[2]
	for _, c := range []struct {
		run       func(...string) string
		name      string
		condition string // names what was found
	}{
		{inPod, "eth0", "eth0 in the Pod"},
		{onNode, port, port},
		{onNode, uplink, uplink},
		{onNode, hostEnd, hostEnd},
		{onNode, attach.EngineA, attach.EngineA},
		{onNode, attach.EngineBPort, attach.EngineBPort},
	} {
		offloads := func() string {
			var on []string
			for line := range strings.Lines(c.run("ethtool", "-k", c.name)) {
				feature, state, _ := strings.Cut(strings.TrimSpace(line), ": ")
				switch feature {
				case "rx-checksumming", "tx-checksumming", "tcp-segmentation-offload", "generic-segmentation-offload", "generic-receive-offload":
					if !strings.HasPrefix(state, "off") {
						on = append(on, feature)
					}
				}
			}
			return strings.Join(on, ", ")
		}
		began := time.Now()
		c.run("ethtool", "-K", c.name, "tx", "on", "tso", "on", "gso", "on", "gro", "on")
		if !testlab.Eventually(t.Context(), 2*time.Second, func() bool { return offloads() == "" }) {
			t.Errorf("%s has the offloads %s on still, after %s", c.name, offloads(), time.Since(began))
			continue
		}
		t.Logf("the offloads of %s were off again after %s", c.name, time.Since(began).Round(time.Millisecond))
		told := func() bool { return strings.Contains(degraded(l), c.condition+" had the offloads ") }
		if !testlab.Eventually(t.Context(), time.Second, told) {
			t.Errorf("the policy does not tell of %s: %q", c.condition, degraded(l))
		}
		if code := get(t, l, "http://web.shop/public/a"); code != 0 {
			t.Errorf("after the offloads of %s were on, curl ended with %d", c.name, code)
		}
	}
	t.Log(degraded(l))

	onNode("ip", "link", "set", attach.EngineAPort, "mtu", "1400")
	onNode("ip", "link", "set", port, "mtu", "1300")
	for name, mtu := range map[string]string{attach.EngineAPort: "1504", port: "1500"} {
		if !testlab.Eventually(t.Context(), 2*time.Second, func() bool { return strings.Contains(onNode("ip", "link", "show", name), "mtu "+mtu+" ") }) {
			t.Errorf("the MTU of %s is not %s again", name, mtu)
		}
	}
	// What the Pod's interface has holds for the ports behind it.
	inPod("ip", "link", "set", "eth0", "mtu", "1280")
	if !testlab.Eventually(t.Context(), 2*time.Second, func() bool { return strings.Contains(onNode("ip", "link", "show", uplink), "mtu 1280 ") }) {
		t.Error("the uplink's MTU does not follow the Pod's")
	}
	if code := get(t, l, "http://web.shop/public/a"); code != 0 {
		t.Errorf("after the MTUs were changed, curl ended with %d", code)
	}
	// More than the way to the engine takes cannot be mended.
	inPod("ip", "link", "set", "eth0", "mtu", "9000")
	if !testlab.Eventually(t.Context(), 2*time.Second, func() bool { return strings.Contains(degraded(l), "start the node's agent with an MTU of 9000") }) {
		t.Errorf("the policy does not tell of an MTU that is too large: %q", degraded(l))
	}
	inPod("ip", "link", "set", "eth0", "mtu", "1500")
	if !testlab.Eventually(t.Context(), 2*time.Second, func() bool { return !strings.Contains(degraded(l), "MTU of 9000") }) {
		t.Errorf("the policy tells still of an MTU that is not there any more: %q", degraded(l))
	}
}

// degraded is what the policy's condition of that type says, when it is true.
func degraded(l *lab.Lab) string {
	for _, p := range l.Status().Policies {
		if c := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionDegraded); c != nil && c.Status == "True" {
			return c.Message
		}
	}
	return ""
}

func output(t *testing.T, c *network.Command) string {
	t.Helper()
	var out, complaints strings.Builder
	c.Stdout, c.Stderr = &out, &complaints
	if err := c.Run(); err != nil && t.Context().Err() == nil {
		t.Fatalf("%v: %s", err, complaints.String())
	}
	return out.String()
}
