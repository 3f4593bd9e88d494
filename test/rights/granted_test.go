package rights_test

import (
	"cmp"
	"fmt"
	"slices"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// right is one thing that an account may do.
type right struct {
	verb, group, resource string
	name                  string // "" is every name
	namespace             string // "" is every namespace, and none
}

func (r right) String() string {
	where := "everywhere"
	if r.namespace != "" {
		where = "in " + r.namespace
	}
	return fmt.Sprintf("%s %s.%s %q %s", r.verb, r.resource, cmp.Or(r.group, "core"), r.name, where)
}

// covers tells whether a request makes use of the right.
func (r right) covers(q request) bool {
	o := q.ObjectRef
	used := slices.Contains(q.verbs(), r.verb) || r.verb == "list" && q.lists()
	return used && r.group == o.APIGroup && r.resource == q.resource() &&
		(r.name == "" || r.name == o.Name) && (r.namespace == "" || r.namespace == o.Namespace)
}

// rightsOf gives all that a ServiceAccount of the namespace may do by roles that are bound to it by name.
func rightsOf(t *testing.T, account string) []right {
	t.Helper()
	var bindings rbacv1.RoleBindingList
	var clusterBindings rbacv1.ClusterRoleBindingList
	must(t, cluster.Client.List(t.Context(), &bindings))
	must(t, cluster.Client.List(t.Context(), &clusterBindings))
	var all []right
	for i := range bindings.Items {
		if b := &bindings.Items[i]; bindsTo(b.Subjects, account) {
			all = append(all, flat(rulesOf(t, b.RoleRef, b.Namespace), b.Namespace)...)
		}
	}
	for i := range clusterBindings.Items {
		if b := &clusterBindings.Items[i]; bindsTo(b.Subjects, account) {
			all = append(all, flat(rulesOf(t, b.RoleRef, ""), "")...)
		}
	}
	return all
}

func bindsTo(subjects []rbacv1.Subject, account string) bool {
	return slices.ContainsFunc(subjects, func(s rbacv1.Subject) bool {
		return s.Kind == rbacv1.ServiceAccountKind && s.Namespace == namespace && s.Name == account
	})
}

func rulesOf(t *testing.T, ref rbacv1.RoleRef, namespace string) []rbacv1.PolicyRule {
	t.Helper()
	if ref.Kind == "Role" {
		role := &rbacv1.Role{}
		must(t, cluster.Client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: ref.Name}, role))
		return role.Rules
	}
	role := &rbacv1.ClusterRole{}
	must(t, cluster.Client.Get(t.Context(), client.ObjectKey{Name: ref.Name}, role))
	return role.Rules
}

func flat(rules []rbacv1.PolicyRule, namespace string) []right {
	var all []right
	for _, rule := range rules {
		names := rule.ResourceNames
		if len(names) == 0 {
			names = []string{""}
		}
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				for _, verb := range rule.Verbs {
					for _, name := range names {
						all = append(all, right{verb, group, resource, name, namespace})
					}
				}
			}
		}
	}
	return all
}
