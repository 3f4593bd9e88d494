// Package rollout judges, by what verdict events tell, what policies in mode Audit would have denied, and whether one of them can be enforced.
// It is pure: it is given the events, the policies and the time.
package rollout
