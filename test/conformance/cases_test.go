package conformance

import (
	"slices"

	"github.com/mattfenwick/cyclonus/pkg/generator"
)

// notByDefault are the tags of cases that the generator's own command leaves out unless it is asked for them.
var notByDefault = []string{
	generator.TagMultiPeer, generator.TagUpstreamE2E, generator.TagExample, generator.TagEndPort, generator.TagNamespacesByDefaultLabel,
}

// defaultCases are those that the generator's command runs unless it is told otherwise, allCases all that there are.
func defaultCases(c *cluster) []*generator.TestCase { return generated(c, notByDefault) }
func allCases(c *cluster) []*generator.TestCase     { return generated(c, nil) }

// generated makes cases; those with blocks of addresses are about the Pod z/c's.
func generated(c *cluster, without []string) []*generator.TestCase {
	return generator.NewTestCaseGenerator(true, c.pod("z", "c").address.String(), namespaces, nil, without).GenerateTestCases()
}

// aFew are enough to see each part of a policy do its work: the first case of each of these names.
func aFew(all []*generator.TestCase) (few []*generator.TestCase) {
	for _, name := range []string{
		"pods by label + ns by label",
		"ipblock with except",
		"open a named port that doesn't match its protocol",
		"direction,ingress,named-port,port,protocol,sctp",
		"deny all + allow all by IP from same source",
		"Create/update policy",
		"Update namespace so that policy applies, then again so it no longer applies",
	} {
		i := slices.IndexFunc(all, func(c *generator.TestCase) bool { return c.Description == name })
		if i < 0 {
			panic("the generator has no case " + name)
		}
		few = append(few, all[i])
	}
	return few
}
