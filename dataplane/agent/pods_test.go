package agent

import (
	"net/netip"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func podWith(name, uid string, addresses ...string) corev1.Pod {
	p := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID(uid)}}
	for _, a := range addresses {
		p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: a})
	}
	return p
}

func TestLocalPods(t *testing.T) {
	fresh := func(uid, a string) sandbox {
		return sandbox{UID: types.UID(uid), Addresses: []netip.Addr{address(a)}}
	}
	asked := podWith("asked", "4")
	later := podWith("web", "9")
	host := podWith("host", "5", "192.0.2.1")
	host.Spec.HostNetwork = true
	for name, test := range map[string]struct {
		informed []corev1.Pod
		told     map[types.UID]sandbox
		asked    map[types.UID]*corev1.Pod
		want     []string
	}{
		"as the informer says":              {[]corev1.Pod{podWith("web", "1", "10.0.0.1")}, nil, nil, []string{"web 1 10.0.0.1"}},
		"the plugin knows an address first": {[]corev1.Pod{podWith("web", "1")}, map[types.UID]sandbox{"1": fresh("1", "10.0.0.2")}, nil, []string{"web 1 10.0.0.2"}},
		"and knows it better":               {[]corev1.Pod{podWith("web", "1", "10.0.0.1")}, map[types.UID]sandbox{"1": fresh("1", "10.0.0.2")}, nil, []string{"web 1 10.0.0.2"}},
		"an ended sandbox":                  {[]corev1.Pod{podWith("web", "1", "10.0.0.1")}, map[types.UID]sandbox{"1": {UID: "1", Ended: true}}, nil, nil},
		"a Pod that the informer lacks":     {nil, map[types.UID]sandbox{"4": fresh("4", "10.0.0.4")}, map[types.UID]*corev1.Pod{"4": &asked}, []string{"asked 4 10.0.0.4"}},
		"without a sandbox it is none yet":  {nil, nil, map[types.UID]*corev1.Pod{"4": &asked}, nil},
		"a name that is used again": {
			[]corev1.Pod{podWith("web", "1", "10.0.0.1")}, map[types.UID]sandbox{"9": fresh("9", "10.0.0.9")},
			map[types.UID]*corev1.Pod{"9": &later}, []string{"web 9 10.0.0.9"},
		},
		"the node's network": {[]corev1.Pod{host}, map[types.UID]sandbox{"5": fresh("5", "10.0.0.5")}, nil, []string{"host 5 192.0.2.1"}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, p := range localPods(test.informed, test.told, test.asked) {
				text := p.Name + " " + string(p.UID)
				for _, a := range addressesOf(&p) {
					text += " " + a.String()
				}
				got = append(got, text)
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("%q; want %q", got, test.want)
			}
		})
	}
	shared := []corev1.Pod{podWith("web", "1", "10.0.0.1")}
	localPods(shared, map[types.UID]sandbox{"1": fresh("1", "10.0.0.2")}, nil)
	if shared[0].Status.PodIPs[0].IP != "10.0.0.1" {
		t.Error("the informer's own object is changed")
	}
}
