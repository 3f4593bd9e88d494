// Package suggesting makes the smallest L7Policy that allows what was seen. It is pure: it is given what was seen, the Pods and the policies.
//
// What was seen of each peer and port is a set of atoms: one method, host and path, one TLS server name, one DNS name. Peers with the same atoms
// on a port share a rule, and ports with the same peers and atoms. Atoms are joined into entries only where methods times hosts times paths is
// exactly what was seen, so that nothing is allowed beside it; but for paths and DNS names, which become a prefix or a suffix where there are
// many of them, and for peers, which stand for all Pods with their labels.
package suggesting
