package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/meerkat-dev/meerkat/dataplane/cni"
	"github.com/meerkat-dev/meerkat/dataplane/cni/plugin"
)

// entry is the plugin's configuration as the agent has installed it.
func (w *world) entry() map[string]any {
	w.t.Helper()
	w.eventually("the plugin is installed", func() error { return w.conflistHas(true) })
	list, err := libcni.NetworkConfFromFile(w.conflistPath())
	if err != nil {
		w.t.Fatal(err)
	}
	conf := map[string]any{"cniVersion": list.CNIVersion, "name": list.Name}
	if err := json.Unmarshal(list.Plugins[len(list.Plugins)-1].Bytes, &conf); err != nil {
		w.t.Fatal(err)
	}
	return conf
}

// starts has the plugin itself decide on a Pod.
func (w *world) starts(conf map[string]any, p *corev1.Pod) error {
	w.t.Helper()
	conf["prevResult"] = map[string]any{"cniVersion": conf["cniVersion"], "ips": []any{map[string]any{"address": p.Status.PodIP + "/24"}}}
	stdin, err := json.Marshal(conf)
	if err != nil {
		w.t.Fatal(err)
	}
	var out bytes.Buffer
	r := w.request(p)
	return plugin.Plugin{Out: &out, Err: os.Stderr}.Add(&skel.CmdArgs{
		ContainerID: r.ContainerID, Netns: r.Netns, IfName: r.Interface, StdinData: stdin,
		Args: "K8S_POD_NAMESPACE=" + p.Namespace + ";K8S_POD_NAME=" + p.Name + ";K8S_POD_UID=" + string(p.UID),
	})
}

// leaveToken leaves the plugin a token of an account that may do what the agent may.
func (w *world) leaveToken(dir string) *corev1.ServiceAccount {
	w.t.Helper()
	text, err := os.ReadFile("../../config/rbac/agent_role.yaml")
	if err != nil {
		w.t.Fatal(err)
	}
	role := &rbacv1.ClusterRole{}
	if err := yaml.Unmarshal(text, role); err != nil {
		w.t.Fatal(err)
	}
	role.Name = "agent-" + w.namespace
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "agent"}}
	w.create(role)
	w.create(account)
	w.create(&rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: role.Name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role.Name},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: w.namespace, Name: "agent"}},
	})
	token := &authenticationv1.TokenRequest{}
	if err := w.cluster.Client.SubResource("token").Create(w.t.Context(), account, token); err != nil {
		w.t.Fatal(err)
	}
	err = cni.WriteCredentials(dir, cni.Credentials{
		Server: w.cluster.Config.Host, CA: w.cluster.Config.CAData, Token: token.Status.Token, Node: w.node,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return account
}

// TestPluginWithoutAgent: while the agent is away, the plugin asks the API server for Pods' labels, with no more rights than the
// agent's, and holds up those alone that must be governed.
func TestPluginWithoutAgent(t *testing.T) {
	t.Parallel()
	w := newWorld(t, cluster)
	w.shop()
	w.applyWeb()
	w.writeConflist()
	p := w.startAgentWith(func(o *order) { o.CNI = true })
	w.report("the policy is in force", inForce)
	conf := w.entry()
	p.kill()
	account := w.leaveToken(conf["runDir"].(string))

	pod := func(name string, labels map[string]string) *corev1.Pod {
		made := w.createPod(name, labels)
		w.addSandbox(made, w.nextAddress())
		return made
	}
	must, other := pod("web-2", map[string]string{"app": "web"}), pod("mail", map[string]string{"app": "mail"})
	waits := func(p *corev1.Pod, why string) {
		t.Helper()
		err := w.starts(conf, p)
		if e, ok := errors.AsType[*types.Error](err); !ok || e.Code != types.ErrTryAgainLater || !strings.Contains(e.Msg, why) {
			t.Errorf("%s: %v; want it to wait, and %q to be said", p.Name, err, why)
		}
	}
	waits(must, "L7Policy "+w.namespace+"/web selects it, with failurePolicy Closed")
	if err := w.starts(conf, other); err != nil {
		t.Errorf("a Pod that no policy selects: %v", err)
	}
	if err := w.cluster.Client.Delete(t.Context(), account); err != nil {
		t.Fatal(err)
	}
	w.eventually("the token has expired", func() error {
		if err := w.starts(conf, other); err == nil {
			return errors.New("it starts")
		}
		return nil
	})
	waits(other, "may select it")

	w.startAgentWith(func(o *order) { o.CNI = true })
	w.eventually("both start once the agent is back", func() error { return errors.Join(w.starts(conf, must), w.starts(conf, other)) })
	if got := w.get("client", "web-2", "/secret"); !strings.HasPrefix(got, "denied") {
		t.Errorf("the first request, which is forbidden: %s", got)
	}
	if got := w.get("client", "mail", "/secret"); !strings.HasPrefix(got, "200") {
		t.Errorf("a Pod that is not governed: %s", got)
	}
}
